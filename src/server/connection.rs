//! One connection: HTTP/1.1 by hyper, with a time limit for each kind of wait.
//!
//! hyper has a timer, too: `header_read_timeout`. It counts a connection's idle time as part of the next request head,
//! so it cannot allow ten minutes between two requests and ten seconds for a head. Here, the bytes that are read tell
//! them apart: bytes after an empty line begin the next head.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::ConnectInfo,
    http::{
        HeaderValue, Request, Response, StatusCode,
        header::{CONNECTION, CONTENT_TYPE},
    },
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy, sink},
    sync::watch,
    time::timeout,
};
use tower::Service;
use tracing::debug;

use super::{
    host::{HostError, host},
    wait::{Progress, Terms},
};

/// The answer to HTTP/2's connection preface. hyper gives the same answer to other input that is not HTTP/1.1.
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// How long to read from a client that still sends after its last answer. Closing earlier would reset the
/// connection, and the client might lose that answer.
const LINGER_LIMIT: Duration = Duration::from_secs(2);

/// The traits that a connection's socket must implement.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// Serves a connection until one side closes it or a time limit is over.
pub(super) async fn serve(
    socket: impl Socket,
    remote: SocketAddr,
    router: &Router,
    http: &http1::Builder,
    terms: watch::Receiver<Terms>,
) {
    let progress = Progress::new();
    let service = service_fn(|request| answer(request, remote, router, &progress, &terms));
    let wire = Wire { socket, progress: &progress };
    let mut connection = http.serve_connection(TokioIo::new(wire), service);
    let Some(ended) = progress.limit(&mut connection, terms.clone()).await else {
        debug!(%remote, "connection closed: time limit");
        return;
    };
    let socket = connection.into_parts().io.into_inner().socket;
    if let Err(error) = &ended {
        debug!(%remote, %error, "connection closed");
    }
    let last_words = if ended.is_err_and(|error| error.is_parse_version_h2()) { BAD_REQUEST } else { b"" };
    let _ = timeout(LINGER_LIMIT, close(socket, last_words, progress.client_sends())).await;
}

/// Closes the sending side, then reads while the client may still be sending a head or a body. Closing the socket
/// with unread bytes would reset the connection, and the client might lose the answer.
async fn close(mut socket: impl Socket, last_words: &[u8], client_sends: bool) -> io::Result<()> {
    socket.write_all(last_words).await?;
    socket.shutdown().await?;
    if client_sends {
        copy(&mut socket, &mut sink()).await?;
    }
    Ok(())
}

/// The router's answer. It closes the connection if the request has a body, the answer has no known end, or the terms
/// require it. A request with an invalid `Host` is refused and does not reach the router.
fn answer(
    request: Request<Incoming>,
    remote: SocketAddr,
    router: &Router,
    progress: &Progress,
    terms: &watch::Receiver<Terms>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> {
    let has_body = !request.body().is_end_stream();
    progress.begin_answer(has_body);
    let answer = host(request.version(), request.headers()).map(|_| {
        let mut request = request.map(|body| if has_body { Body::new(body) } else { Body::empty() });
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
        let ends = answer.size_hint().exact().is_some();
        if ends {
            progress.end_answer();
        }
        if has_body || refused || !ends || !terms.borrow().keep_alive() {
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
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    answer
}

/// The socket that hyper reads and writes. It updates the [`Progress`] of its connection.
struct Wire<'a, S> {
    socket: S,
    progress: &'a Progress,
}

impl<S: Socket> AsyncRead for Wire<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            self.progress.read(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Socket> AsyncWrite for Wire<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.progress.written(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Does nothing: [`close`] shuts the socket down. hyper would not do so for each kind of end.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    //! Time is simulated: when every task waits, it jumps to the next timer.

    use std::time::Duration;

    use axum::{body::Bytes, routing::get};
    use futures_util::stream;
    use tokio::{
        io::{AsyncReadExt, DuplexStream, duplex},
        time::{Instant, sleep},
    };

    use super::*;
    use crate::http::admin::Phase;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const SERVING: Terms =
        Terms { phase: Phase::Serving, full: false, idle_timeout: Duration::from_secs(620) };

    /// A connection to a server through a pipe with a capacity in bytes.
    fn connect_with(router: Router, capacity: usize) -> (DuplexStream, watch::Sender<Terms>) {
        let (client, server) = duplex(capacity);
        let (terms, subscribed) = watch::channel(SERVING);
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.half_close(true);
            serve(server, ([127, 0, 0, 1], 1).into(), &router, &http, subscribed).await;
        });
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
        assert_eq!(closed_after(&mut client).await, 620);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_the_idle_timeout() {
        for idle_timeout in [Duration::from_secs(2), Duration::from_secs(3600)] {
            let (mut client, terms) = connect();
            terms.send_replace(Terms { idle_timeout, ..SERVING });
            client.write_all(REQUEST).await.expect("open");
            answer(&mut client).await;
            assert_eq!(closed_after(&mut client).await, idle_timeout.as_secs());
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
        assert_eq!(closed_after(&mut client).await, 620);
    }

    /// A connection to a server that takes a minute for each answer.
    fn connect_to_slow() -> (DuplexStream, watch::Sender<Terms>) {
        let slow = get(|| async {
            sleep(Duration::from_secs(60)).await;
            "hello"
        });
        connect_with(Router::new().route("/", slow), 1 << 16)
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
    async fn an_answer_without_end_goes_on_while_the_client_reads_it_and_its_connection_is_not_idle() {
        let endless = || stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b'a'; 1024])));
        let router = Router::new().route("/", get(move || async move { Body::from_stream(endless()) }));
        let (mut client, terms) = connect_with(router, 1024);
        client.write_all(REQUEST).await.expect("open");
        terms.send_replace(Terms { full: true, idle_timeout: Duration::from_secs(1), ..SERVING });
        let mut some = [0; 1024];
        for _ in 0..3 {
            sleep(Duration::from_secs(19)).await;
            client.read_exact(&mut some).await.expect("it goes on");
        }
        sleep(Duration::from_secs(21)).await;
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.expect("closed");
        assert!(rest.len() <= 1024, "only the bytes that were already in the pipe");
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
    async fn when_stopping_or_full_an_idle_connection_is_closed_after_1_s_and_a_new_one_1_s_after_it_is_opened()
     {
        let stopping = Terms { phase: Phase::Stopping, ..SERVING };
        for (changed, seconds) in [(stopping, [1, 1]), (Terms { full: true, ..SERVING }, [0, 1])] {
            for requests in [0, 1] {
                let (mut client, terms) = connect();
                for _ in 0..requests {
                    client.write_all(REQUEST).await.expect("open");
                    answer(&mut client).await;
                }
                sleep(Duration::from_secs(5)).await;
                terms.send_replace(changed);
                assert_eq!(closed_after(&mut client).await, seconds[requests], "{changed:?}");
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
