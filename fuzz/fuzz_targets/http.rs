//! A client may send any bytes. It receives complete, known answers, at least one if it sends a request. Then the
//! connection closes.
#![no_main]

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::LazyLock,
    thread,
    time::Duration,
};

use appinfo::{
    config::Listen,
    labels::LabelFile,
    server::{self, Server},
    service::{AppInfoBaseline, Pod},
};
use libfuzzer_sys::fuzz_target;

/// The public port of a server in this process.
static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bind = || server::bind(Listen::At(([127, 0, 0, 1], 0).into())).expect("a port");
    let (public, admin) = {
        let _context = runtime.enter();
        (bind(), bind())
    };
    let address = public.local_addr().expect("its address");
    let directory = tempfile::tempdir().expect("a directory").keep();
    std::fs::write(directory.join("labels"), "app=\"appinfo\"\nrelease=\"stable\"").expect("a label file");
    let pod = Pod {
        name: "pod-1".to_owned(),
        namespace: "space".to_owned(),
        label_file: LabelFile::new(directory.join("labels")),
    };
    let mut server = Server::new(pod, Box::new(AppInfoBaseline), public, admin).expect("a server");
    server.max_connections = 100;
    thread::spawn(move || runtime.block_on(server.run(std::future::pending())));
    address
});

fuzz_target!(|request: &[u8]| {
    let mut client = TcpStream::connect(*SERVER).expect("a connection");
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
    // the server may close the connection before everything is sent
    let _ = client.write_all(request).and_then(|()| client.shutdown(Shutdown::Write));
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).expect("it closes, without a reset");
    assert!(!answers.is_empty() || !begins_with_a_request(request), "no answer");
    let mut rest = &answers[..];
    while !rest.is_empty() {
        rest = after_one_answer(rest);
    }
});

fn begins_with_a_request(bytes: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    httparse::Request::new(&mut headers).parse(bytes).is_ok_and(|head| head.is_complete())
}

/// Checks the first of these answers, and returns the others.
fn after_one_answer(answers: &[u8]) -> &[u8] {
    let shown = answers.escape_ascii();
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(answers) else { panic!("no head: {shown}") };
    let header = |name| head.headers.iter().find(|header| header.name == name).map(|header| header.value);
    let rest = &answers[length..];

    let status = head.code.expect("a status");
    if matches!(status, 400 | 431) {
        assert!(
            rest.is_empty() || status == 400 && is_json_line(rest),
            "bytes after the last answer: {shown}"
        );
        return b"";
    }
    assert!(matches!(status, 200 | 404 | 405), "{shown}");
    assert_eq!(header("x-served-by"), Some(&b"pod-1"[..]), "{shown}");
    assert_eq!(header("x-release"), Some(&b"stable"[..]), "{shown}");
    let size = header("content-length").expect("a length");
    let size: usize = std::str::from_utf8(size).expect("digits").parse().expect("a number");
    if rest.is_empty() || rest.starts_with(b"HTTP/1.") {
        return rest; // an answer to HEAD has no body
    }
    let (body, rest) = rest.split_at_checked(size).unwrap_or_else(|| panic!("incomplete: {shown}"));
    assert!(is_json_line(body), "{shown}");
    rest
}

fn is_json_line(body: &[u8]) -> bool {
    body.ends_with(b"\n") && serde_json::from_slice::<serde_json::Value>(body).is_ok()
}
