//! One connection: HTTP/1.1 by hyper, and a time limit for whatever it waits for.
//!
//! This buys 2.9 KiB instead of 12.0 KiB per idle connection, and 10 s for a slow head beside ten minutes for an
//! idle connection.
//!
//! hyper's own `header_read_timeout` counts the time that a kept-alive connection is idle as time that its next
//! request head takes, and hyper keeps its buffers all the while. Here the two have limits of their own. They are
//! told apart by the bytes that pass by: after an answer, a connection whose last bytes were the empty line at the
//! end of a head pauses, and soon rests, without hyper. Any other bytes are the beginning of the next head. (A
//! request body would confuse that, but none is ever read: the answer to a request that has one closes the
//! connection.)

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

/// The longest request head, in bytes. hyper answers 431 to a longer one.
const HEAD_BYTES: usize = 8 << 10;

/// The answer to HTTP/2's connection preface, as hyper writes it to whatever else is not HTTP/1.1.
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves a connection until it ends, one side closes it, or a time limit is over.
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

/// Why a connection ends other than by what one side says in HTTP.
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
                // hyper leaves what follows to us where the client asks for another protocol
                let mut wire = connection.into_parts().io.into_inner();
                match ended {
                    Err(error) if error.is_parse_version_h2() => {
                        lock(&progress).begin_request(true); // what follows the preface stays unread
                        watchdog.guard(wire.write_all(BAD_REQUEST)).await??;
                    }
                    ended => ended?,
                }
                return Ok(watchdog.guard(wire.shutdown()).await??);
            }
        }
        // the next request may take long to come: hyper's buffers, 16 KiB, are not kept for it
        wire = {
            let parts = connection.into_parts(); // hyper has taken all that was unread before
            Wire { unread: Bytes::copy_from_slice(&parts.read_buf), ..parts.io.into_inner() }
        };
        if !watchdog.guard(wire.rest()).await?? {
            return Ok(());
        }
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(None).max_buf_size(HEAD_BYTES);
    // a client that has sent all it will is answered, too; and nothing is read while an answer is made
    http.half_close(true);
    // an answer is short: copied behind its head, it is sent for less than head and body apart
    http.writev(false);
    http
}

/// The router's answer, which closes the connection where the request has a body or the terms demand it. The
/// router is not asked where the `Host` is wrong.
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

/// Says what is wrong in the form of the public port's errors. Like hyper's own refusals it names no pod: the
/// request did not reach it.
fn refusal(error: HostError) -> Response<Body> {
    let mut answer = Response::new(Body::from(format!("{{\"error\":\"{error}\"}}\n")));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

#[cfg(test)]
mod tests {
    //! Time is simulated: it jumps to the next timer whenever every task waits.

    use std::time::Duration;

    use axum::routing::get;
    use proptest::prelude::*;
    use tokio::{
        io::{AsyncReadExt, DuplexStream, duplex},
        time::{Instant, sleep},
    };

    use super::{super::port::Phase, watchdog::LINGER_LIMIT, *};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const WELCOME: Terms =
        Terms { phase: Phase::Serving, full: false, idle_timeout: Duration::from_secs(620) };

    /// A connection to a server, through a pipe that holds `capacity` bytes.
    fn connect_with(router: Router, capacity: usize) -> (DuplexStream, watch::Sender<Terms>) {
        let (client, server) = duplex(capacity);
        let (terms, subscribed) = watch::channel(WELCOME);
        tokio::spawn(async move { serve(server, ([127, 0, 0, 1], 1).into(), &router, subscribed).await });
        (client, terms)
    }

    /// One that answers `/` with `body`.
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

    /// Waits for the server to close the connection without another byte: how many seconds it takes.
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
    async fn the_first_head_has_10_s_from_the_opening_however_it_trickles() {
        let (mut client, _terms) = connect();
        for byte in &REQUEST[..9] {
            sleep(Duration::from_secs(1)).await;
            client.write_u8(*byte).await.expect("still open");
        }
        assert_eq!(closed_after(&mut client).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn empty_lines_before_the_first_head_win_no_time() {
        let (mut client, _terms) = connect();
        client.write_all(b"\r\n\r\n").await.expect("open");
        assert_eq!(closed_after(&mut client).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn nor_do_empty_lines_that_trickle() {
        let (mut client, _terms) = connect();
        for bytes in ["\r", "\n\r\n", "\r", "\n\r\n"] {
            client.write_all(bytes.as_bytes()).await.expect("open");
            sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(closed_after(&mut client).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_rests_for_ten_minutes_and_is_served_again() {
        let (mut client, _terms) = connect();
        for rest in [0, 120, 1, 619, 600] {
            sleep(Duration::from_secs(rest)).await;
            client.write_all(REQUEST).await.expect("still open");
            answer(&mut client).await;
        }
        assert_eq!(closed_after(&mut client).await, 621, "the pause counts, too");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_rests_as_long_as_the_terms_say() {
        for idle_timeout in [Duration::from_secs(2), Duration::from_secs(3600)] {
            let (mut client, terms) = connect();
            terms.send_replace(Terms { idle_timeout, ..WELCOME });
            client.write_all(REQUEST).await.expect("open");
            answer(&mut client).await;
            assert_eq!(closed_after(&mut client).await, idle_timeout.as_secs() + 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_may_rest_for_ever() {
        let (mut client, terms) = connect();
        terms.send_replace(Terms { idle_timeout: Duration::MAX, ..WELCOME });
        for _ in 0..2 {
            client.write_all(REQUEST).await.expect("still open");
            answer(&mut client).await;
            sleep(Duration::from_secs(365 * 24 * 60 * 60)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn empty_lines_are_no_request_before_a_rest_or_after() {
        let (mut client, _terms) = connect();
        client.write_all(&[REQUEST, b"\r\n\r\n"].concat()).await.expect("open");
        answer(&mut client).await;
        sleep(Duration::from_secs(60)).await;
        client.write_all(&[b"\r\n\r\n", REQUEST].concat()).await.expect("still open");
        answer(&mut client).await;
        client.write_all(b"\r\n\r\n").await.expect("open");
        assert_eq!(closed_after(&mut client).await, 621);
    }

    /// A connection to a server that takes a minute.
    fn connect_to_slow() -> (DuplexStream, watch::Sender<Terms>) {
        let slow = get(|| async {
            sleep(Duration::from_secs(60)).await;
            "hello"
        });
        connect_with(Router::new().route("/", slow), 1 << 16)
    }

    proptest! {
        /// However requests are cut, and whatever time passes in between, each gets its answer.
        #[test]
        fn no_request_is_lost_between_pieces(
            empty_lines in prop::collection::vec(0..3_usize, 1..6),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize), 0..6),
        ) {
            const GAPS: [u64; 4] = [0, 20, 60, 1500]; // in milliseconds: none, within a pause, beyond it, a rest
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
    async fn an_answer_that_takes_long_is_waited_for() {
        let (mut client, _terms) = connect_to_slow();
        for _ in 0..2 {
            client.write_all(REQUEST).await.expect("open");
            answer(&mut client).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_sent_all_it_will_is_answered() {
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
    async fn a_head_that_begins_behind_another_has_10_s_too() {
        let (mut client, _terms) = connect();
        sleep(Duration::from_secs(9)).await;
        client.write_all(&[REQUEST, &REQUEST[..9]].concat()).await.expect("open");
        answer(&mut client).await;
        assert_eq!(closed_after(&mut client).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_in_time_is_answered_and_the_connection_rests_again() {
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
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.expect("closed");
        assert!(rest.len() <= 64, "only what was already on its way");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_not_waited_for_but_listened_out() {
        let (mut client, _terms) = connect();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nabc")
            .await
            .expect("open");
        let answer = answer(&mut client).await;
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(closed_after(&mut client).await, 0, "the answer is complete at once");
        client.write_all("x".repeat(900_000).as_bytes()).await.expect("the rest is still taken");
        sleep(LINGER_LIMIT * 2).await;
        client.write_all(b"x").await.expect_err("no longer");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_say_close_while_draining_and_the_connection_may_rest() {
        let (mut client, terms) = connect();
        client.write_all(REQUEST).await.expect("open");
        assert!(!answer(&mut client).await.contains("connection: close"));
        terms.send_replace(Terms { phase: Phase::Draining, ..WELCOME });
        sleep(Duration::from_secs(120)).await;
        client.write_all(REQUEST).await.expect("still open");
        assert!(answer(&mut client).await.contains("connection: close"));
        assert_eq!(closed_after(&mut client).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn resting_and_silent_connections_are_closed_after_1_s_when_stopping_or_full() {
        for unwelcome in [Terms { phase: Phase::Stopping, ..WELCOME }, Terms { full: true, ..WELCOME }] {
            for requests in [0, 1] {
                let (mut client, terms) = connect();
                for _ in 0..requests {
                    client.write_all(REQUEST).await.expect("open");
                    answer(&mut client).await;
                }
                sleep(Duration::from_secs(5)).await;
                terms.send_replace(unwelcome);
                assert_eq!(closed_after(&mut client).await, 1);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_has_begun_when_stopping_is_answered() {
        let (mut client, terms) = connect();
        client.write_all(&REQUEST[..9]).await.expect("open");
        tokio::task::yield_now().await;
        terms.send_replace(Terms { phase: Phase::Stopping, ..WELCOME });
        sleep(Duration::from_secs(9)).await;
        client.write_all(&REQUEST[9..]).await.expect("still open");
        assert!(answer(&mut client).await.contains("connection: close"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_loses_its_place_when_full() {
        let (mut client, terms) = connect();
        client.write_all(&REQUEST[..9]).await.expect("open");
        tokio::task::yield_now().await;
        terms.send_replace(Terms { full: true, ..WELCOME });
        assert_eq!(closed_after(&mut client).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_may_rest_again_once_others_have_left() {
        let (mut client, terms) = connect();
        terms.send_replace(Terms { full: true, ..WELCOME });
        tokio::task::yield_now().await;
        terms.send_replace(WELCOME);
        sleep(Duration::from_secs(9)).await;
        client.write_all(REQUEST).await.expect("still open");
        answer(&mut client).await;
    }
}
