//! One connection: HTTP/1.1 by hyper, with a time limit for each kind of wait.
//!
//! With these limits, an idle connection takes 2.9 KiB instead of 12.0 KiB, and a request head must arrive within 10 s
//! although a connection may be idle for ten minutes.
//!
//! hyper's own `header_read_timeout` counts a connection's idle time as part of the next request head, and hyper
//! keeps its buffers during that time. Here, heads and idle time have separate limits. The last bytes that were read
//! tell them apart. If they are the empty line at the end of a head, the connection pauses after its answer; if no
//! byte follows within 50 ms, it becomes idle and hyper's buffers are freed. Any other bytes begin the next
//! head. (A request body cannot be mistaken for a head, because bodies are never read: the answer to a request with a
//! body closes the connection.)

mod host;
mod progress;
mod watchdog;
mod wire;

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Mutex};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::ConnectInfo,
    http::{
        HeaderValue, Request, Response, StatusCode,
        header::{CONNECTION, CONTENT_TYPE},
    },
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, sync::watch};
use tower::Service;
use tracing::debug;

use self::{
    host::HostError,
    progress::{Progress, Wait, lock},
    watchdog::Watchdog,
    wire::{Stream, Wire},
};
use super::port::Terms;
use crate::http::JSON;

/// The maximum length of a request head, in bytes. hyper answers 431 to a longer one.
const HEAD_BYTES: usize = 8 << 10;

/// The answer to HTTP/2's connection preface. hyper gives the same answer to other input that is not HTTP/1.1.
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves a connection until one side closes it or a time limit is over.
pub(super) async fn serve(
    stream: impl Stream,
    remote: SocketAddr,
    router: &Router,
    terms: watch::Receiver<Terms>,
) {
    if let Err(end) = serve_requests(stream, remote, router, terms).await {
        debug!(%remote, %end, "connection closed");
    }
}

/// An abnormal end of a connection.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Wire(#[from] io::Error),
    #[error("time limit: {0:?}")]
    TimeLimit(Wait),
}

impl From<Wait> for End {
    fn from(wait: Wait) -> Self {
        Self::TimeLimit(wait)
    }
}

async fn serve_requests(
    stream: impl Stream,
    remote: SocketAddr,
    router: &Router,
    terms: watch::Receiver<Terms>,
) -> Result<(), End> {
    let progress = Mutex::new(Progress::default());
    let service = service_fn(|request| answer(request, remote, router, &progress, &terms));
    let http = http();
    let mut wire = Wire { stream, unread: Bytes::new(), progress: &progress };
    let mut watchdog = Watchdog::new(&progress, terms.clone());
    loop {
        let mut connection = http.serve_connection(TokioIo::new(wire), service);
        match watchdog.guard(&mut connection).await {
            Err(Wait::Pause { .. }) => {}
            ended => {
                let ended = ended?;
                // hyper does not shut the socket down if the client requests another protocol
                let mut wire = connection.into_parts().io.into_inner();
                match ended {
                    Err(error) if error.is_parse_version_h2() => {
                        lock(&progress).begin_request(true); // bytes after the preface count as an unread body
                        watchdog.guard(wire.write_all(BAD_REQUEST)).await??;
                    }
                    ended => ended?,
                }
                return Ok(watchdog.guard(wire.shutdown()).await??);
            }
        }
        // the connection becomes idle: free hyper's buffers of 16 KiB
        wire = {
            let parts = connection.into_parts(); // hyper has read all of the wire's unread bytes
            Wire { unread: Bytes::copy_from_slice(&parts.read_buf), ..parts.io.into_inner() }
        };
        if !watchdog.guard(wire.idle()).await?? {
            return Ok(());
        }
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(None).max_buf_size(HEAD_BYTES);
    // answer a client that has closed its sending side; with this, hyper also reads nothing until the answer is ready
    http.half_close(true);
    // answers are short: copying the body behind the head costs less than sending both with writev
    http.writev(false);
    http
}

/// The router's answer. It closes the connection if the request has a body or the terms require it. A request with
/// an invalid `Host` is refused and does not reach the router.
fn answer(
    request: Request<Incoming>,
    remote: SocketAddr,
    router: &Router,
    progress: &Mutex<Progress>,
    terms: &watch::Receiver<Terms>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> {
    let has_body = !request.body().is_end_stream();
    lock(progress).begin_request(has_body);
    let answer = host::check(&request).map(|()| {
        let mut request = request.map(|_unread| Body::empty());
        request.extensions_mut().insert(ConnectInfo(remote));
        router.clone().call(request)
    });
    async move {
        let (mut answer, refused) = match answer {
            Ok(answer) => (answer.await?, false),
            Err(error) => {
                debug!(%remote, %error, "request refused");
                (refusal(error), true)
            }
        };
        lock(progress).answering = false;
        if has_body || refused || !terms.borrow().keep_alive() {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer)
    }
}

/// An error answer with the same JSON as the public port's errors. Like hyper's own errors, it has no header with
/// the pod's name: the request did not reach the router.
fn refusal(error: HostError) -> Response<Body> {
    let mut answer = Response::new(Body::from(format!("{{\"error\":\"{error}\"}}\n")));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

#[cfg(test)]
mod tests {
    //! Time is simulated: when every task waits, it jumps to the next timer.

    use std::time::Duration;

    use axum::routing::get;
    use proptest::prelude::*;
    use tokio::{
        io::{AsyncReadExt, DuplexStream, duplex},
        time::{Instant, sleep},
    };

    use super::{super::port::Phase, watchdog::LINGER_LIMIT, *};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const SERVING: Terms =
        Terms { phase: Phase::Serving, full: false, idle_timeout: Duration::from_secs(620) };

    /// A connection to a server through a pipe with a capacity in bytes.
    fn connect_with(router: Router, capacity: usize) -> (DuplexStream, watch::Sender<Terms>) {
        let (client, server) = duplex(capacity);
        let (terms, subscribed) = watch::channel(SERVING);
        tokio::spawn(async move { serve(server, ([127, 0, 0, 1], 1).into(), &router, subscribed).await });
        (client, terms)
    }

    /// A connection to a server that answers `/` with `body`.
    fn connect_to(body: &'static str, capacity: usize) -> (DuplexStream, watch::Sender<Terms>) {
        connect_with(Router::new().route("/", get(move || async move { body })), capacity)
    }

    fn connect() -> (DuplexStream, watch::Sender<Terms>) {
        connect_to("hello", 1 << 16)
    }

    /// Reads one answer, which must end with `hello`.
    async fn answer(client: &mut DuplexStream) -> String {
        let mut text = String::new();
        while !text.ends_with("hello") {
            let byte = client.read_u8().await.expect("an answer");
            text.push(char::from(byte));
        }
        text
    }

    /// Waits until the server closes the connection, and returns the seconds. Panics if the server sends more bytes.
    async fn closed_after(client: &mut DuplexStream) -> u64 {
        let start = Instant::now();
        assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0, "nothing more is sent");
        start.elapsed().as_millis().div_ceil(1000).try_into().expect("a short time")
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_sends_nothing_is_closed_after_10_s() {
        let (mut client, _terms) = connect();
        assert_eq!(closed_after(&mut client).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_head_has_10_s_in_total_when_its_bytes_arrive_one_by_one() {
        let (mut client, _terms) = connect();
        for byte in &REQUEST[..9] {
            sleep(Duration::from_secs(1)).await;
            client.write_u8(*byte).await.expect("still open");
        }
        assert_eq!(closed_after(&mut client).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn empty_lines_before_the_first_head_do_not_extend_its_limit() {
        let (mut client, _terms) = connect();
        client.write_all(b"\r\n\r\n").await.expect("open");
        assert_eq!(closed_after(&mut client).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn empty_lines_that_arrive_one_by_one_do_not_extend_the_limit_of_the_first_head() {
        let (mut client, _terms) = connect();
        for bytes in ["\r", "\n\r\n", "\r", "\n\r\n"] {
            client.write_all(bytes.as_bytes()).await.expect("open");
            sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(closed_after(&mut client).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_idle_for_ten_minutes_is_served_again() {
        let (mut client, _terms) = connect();
        for idle in [0, 120, 1, 619, 600] {
            sleep(Duration::from_secs(idle)).await;
            client.write_all(REQUEST).await.expect("still open");
            answer(&mut client).await;
        }
        assert_eq!(closed_after(&mut client).await, 621, "the pause counts, too");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_the_idle_timeout() {
        for idle_timeout in [Duration::from_secs(2), Duration::from_secs(3600)] {
            let (mut client, terms) = connect();
            terms.send_replace(Terms { idle_timeout, ..SERVING });
            client.write_all(REQUEST).await.expect("open");
            answer(&mut client).await;
            assert_eq!(closed_after(&mut client).await, idle_timeout.as_secs() + 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_timeout_never_ends() {
        let (mut client, terms) = connect();
        terms.send_replace(Terms { idle_timeout: Duration::MAX, ..SERVING });
        for _ in 0..2 {
            client.write_all(REQUEST).await.expect("still open");
            answer(&mut client).await;
            sleep(Duration::from_secs(365 * 24 * 60 * 60)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn empty_lines_before_and_after_idle_time_are_not_a_request() {
        let (mut client, _terms) = connect();
        client.write_all(&[REQUEST, b"\r\n\r\n"].concat()).await.expect("open");
        answer(&mut client).await;
        sleep(Duration::from_secs(60)).await;
        client.write_all(&[b"\r\n\r\n", REQUEST].concat()).await.expect("still open");
        answer(&mut client).await;
        client.write_all(b"\r\n\r\n").await.expect("open");
        assert_eq!(closed_after(&mut client).await, 621);
    }

    /// A connection to a server that takes a minute for each answer.
    fn connect_to_slow() -> (DuplexStream, watch::Sender<Terms>) {
        let slow = get(|| async {
            sleep(Duration::from_secs(60)).await;
            "hello"
        });
        connect_with(Router::new().route("/", slow), 1 << 16)
    }

    proptest! {
        /// Each request is answered, however the bytes are cut and however much time passes between the pieces.
        #[test]
        fn requests_cut_into_pieces_are_all_answered(
            empty_lines in prop::collection::vec(0..3_usize, 1..6),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize), 0..6),
        ) {
            const GAPS: [u64; 4] = [0, 20, 60, 1500]; // in milliseconds: none, within a pause, just after it, idle
            let bytes: Vec<u8> =
                empty_lines.iter().flat_map(|&lines| [&b"\r\n".repeat(lines), REQUEST].concat()).collect();
            let mut cuts: Vec<_> = cuts.iter().map(|(at, gap)| (at.index(bytes.len()), GAPS[*gap])).collect();
            cuts.sort_unstable();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.expect("a runtime").block_on(async {
                let (mut client, _terms) = connect();
                let mut sent = 0;
                for (at, gap) in cuts.into_iter().chain([(bytes.len(), 0)]) {
                    client.write_all(&bytes[sent..at]).await.expect("open");
                    sleep(Duration::from_millis(gap)).await;
                    sent = at;
                }
                for _ in &empty_lines {
                    answer(&mut client).await;
                }
            });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_is_not_cut_off() {
        let (mut client, _terms) = connect_to_slow();
        for _ in 0..2 {
            client.write_all(REQUEST).await.expect("open");
            answer(&mut client).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_closed_its_sending_side_is_answered() {
        let (mut client, _terms) = connect_to_slow();
        client.write_all(REQUEST).await.expect("open");
        client.shutdown().await.expect("half closed");
        answer(&mut client).await;
        assert_eq!(closed_after(&mut client).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_head_has_10_s_from_its_first_byte() {
        let (mut client, _terms) = connect();
        client.write_all(REQUEST).await.expect("open");
        answer(&mut client).await;
        sleep(Duration::from_secs(60)).await;
        for byte in &REQUEST[..5] {
            client.write_u8(*byte).await.expect("still open");
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(closed_after(&mut client).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipelined_head_has_10_s() {
        let (mut client, _terms) = connect();
        sleep(Duration::from_secs(9)).await;
        client.write_all(&[REQUEST, &REQUEST[..9]].concat()).await.expect("open");
        answer(&mut client).await;
        assert_eq!(closed_after(&mut client).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_slow_head_is_answered_the_connection_may_be_idle_again() {
        let (mut client, _terms) = connect();
        for _ in 0..3 {
            for part in REQUEST.chunks(10) {
                sleep(Duration::from_secs(3)).await;
                client.write_all(part).await.expect("still open");
            }
            answer(&mut client).await;
            sleep(Duration::from_secs(120)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_its_answers_is_closed_after_20_s() {
        let (mut client, _terms) = connect_to("hello", 64);
        client.write_all(REQUEST).await.expect("open");
        sleep(Duration::from_secs(19)).await;
        answer(&mut client).await;

        client.write_all(REQUEST).await.expect("still open");
        sleep(Duration::from_secs(21)).await;
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.expect("closed");
        assert!(received.len() <= 64, "only the bytes that were already in the pipe");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_with_a_body_is_answered_at_once_and_its_body_is_read_for_2_s() {
        let (mut client, _terms) = connect();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nabc")
            .await
            .expect("open");
        let answer = answer(&mut client).await;
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(closed_after(&mut client).await, 0, "the answer is complete at once");
        client.write_all("x".repeat(900_000).as_bytes()).await.expect("the rest is still read");
        sleep(LINGER_LIMIT * 2).await;
        client.write_all(b"x").await.expect_err("closed");
    }

    #[tokio::test(start_paused = true)]
    async fn while_draining_connections_may_be_idle_and_answers_say_close() {
        let (mut client, terms) = connect();
        client.write_all(REQUEST).await.expect("open");
        assert!(!answer(&mut client).await.contains("connection: close"));
        terms.send_replace(Terms { phase: Phase::Draining, ..SERVING });
        sleep(Duration::from_secs(120)).await;
        client.write_all(REQUEST).await.expect("still open");
        assert!(answer(&mut client).await.contains("connection: close"));
        assert_eq!(closed_after(&mut client).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_and_new_connections_are_closed_after_1_s_when_stopping_or_full() {
        for changed in [Terms { phase: Phase::Stopping, ..SERVING }, Terms { full: true, ..SERVING }] {
            for requests in [0, 1] {
                let (mut client, terms) = connect();
                for _ in 0..requests {
                    client.write_all(REQUEST).await.expect("open");
                    answer(&mut client).await;
                }
                sleep(Duration::from_secs(5)).await;
                terms.send_replace(changed);
                assert_eq!(closed_after(&mut client).await, 1);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_began_before_stopping_is_answered() {
        let (mut client, terms) = connect();
        client.write_all(&REQUEST[..9]).await.expect("open");
        tokio::task::yield_now().await;
        terms.send_replace(Terms { phase: Phase::Stopping, ..SERVING });
        sleep(Duration::from_secs(9)).await;
        client.write_all(&REQUEST[9..]).await.expect("still open");
        assert!(answer(&mut client).await.contains("connection: close"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_an_incomplete_head_is_closed_when_full() {
        let (mut client, terms) = connect();
        client.write_all(&REQUEST[..9]).await.expect("open");
        tokio::task::yield_now().await;
        terms.send_replace(Terms { full: true, ..SERVING });
        assert_eq!(closed_after(&mut client).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_may_be_idle_again_when_the_port_is_no_longer_full() {
        let (mut client, terms) = connect();
        terms.send_replace(Terms { full: true, ..SERVING });
        tokio::task::yield_now().await;
        terms.send_replace(SERVING);
        sleep(Duration::from_secs(9)).await;
        client.write_all(REQUEST).await.expect("still open");
        answer(&mut client).await;
    }
}
