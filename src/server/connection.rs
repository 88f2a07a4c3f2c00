//! One connection: HTTP/1.1 by hyper, and a time limit for whatever it waits for.
//!
//! hyper's own `header_read_timeout` counts the time that a kept-alive connection rests as time that its next
//! request head takes, and its buffers are kept all the while. Here the two have limits of their own, told
//! apart by the bytes that pass by: once a request has been answered, a connection whose last bytes were the
//! empty line at the end of a head pauses, and soon rests, without hyper; any others are the beginning of the
//! next head. (A request body would confuse that, but none is ever read: the answer to a request that has one
//! closes the connection.)

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::ConnectInfo,
    http::{HeaderValue, Request, header::CONNECTION},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};
use tower::Service;
use tracing::debug;

use super::port::Terms;

/// From the first byte of a request head to its last; for a connection's first, from its opening.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection that has just been used keeps its buffers, at least; at most it is twice as long.
const PAUSE: Duration = Duration::from_millis(50);
/// How long it may rest after that.
const REST_LIMIT: Duration = Duration::from_secs(150);
/// How long a connection may still wait for a request where [`Terms`] want it to go: one may be on its way.
const GOING_LIMIT: Duration = Duration::from_secs(1);
/// How long a client may take to accept what is written to it.
const WRITE_LIMIT: Duration = Duration::from_secs(20);
/// How long a client that still sends is listened to after its last answer, lest a reset destroy that answer.
const LINGER_LIMIT: Duration = Duration::from_secs(2);
/// The longest request head, in bytes. hyper answers 431 to a longer one.
const HEAD_BYTES: usize = 8 << 10;

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

/// Why a connection ends but by what one side says in HTTP.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Wire(#[from] io::Error),
    #[error("time limit: {0:?}")]
    TimeLimit(Wait),
}

async fn serve_requests(
    stream: impl Stream,
    remote: SocketAddr,
    router: &Router,
    mut terms: watch::Receiver<Terms>,
) -> Result<(), End> {
    let progress = Mutex::new(Progress::default());
    let current_terms = terms.clone();
    let service = service_fn(|request: Request<Incoming>| {
        let has_body = !request.body().is_end_stream();
        {
            let mut progress = lock(&progress);
            progress.requests += 1;
            progress.has_body = has_body;
            progress.answering = true;
        }
        let mut request = request.map(|_unread| Body::empty());
        request.extensions_mut().insert(ConnectInfo(remote));
        let answer = router.clone().call(request);
        let (progress, terms) = (&progress, &current_terms);
        async move {
            let mut answer = answer.await?;
            lock(progress).answering = false;
            if has_body || !terms.borrow().keep_alive() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let mut http = http1::Builder::new();
    http.header_read_timeout(None).max_buf_size(HEAD_BYTES);
    // a client that has sent all it will is answered, too; and nothing is read while an answer is made
    http.half_close(true);
    // an answer is short: copied behind its head, it is sent for less than head and body apart
    http.writev(false);

    let mut wire = Wire { stream, unread: Bytes::new(), progress: &progress };
    let mut watchdog = Watchdog::new(&progress, *terms.borrow_and_update());
    loop {
        let mut connection = http.serve_connection(TokioIo::new(wire), service);
        match watchdog.guard(&mut connection, &mut terms).await {
            Err(Wait::Pause) => {}
            Err(waited_for) => return Err(End::TimeLimit(waited_for)),
            Ok(ended) => {
                ended?;
                if !lock(&progress).client_sends() {
                    return Ok(());
                }
                // hyper leaves this out where the client asked for another protocol
                let mut wire = connection.into_parts().io.into_inner();
                return Ok(watchdog.guard(wire.shutdown(), &mut terms).await.map_err(End::TimeLimit)??);
            }
        }
        // it may be long until the next request: hyper's buffers, 16 KiB, are not kept for it
        wire = {
            let parts = connection.into_parts(); // hyper has taken all that was unread before
            Wire { unread: Bytes::copy_from_slice(&parts.read_buf), ..parts.io.into_inner() }
        };
        if !watchdog.guard(wire.rest(), &mut terms).await.map_err(End::TimeLimit)?? {
            return Ok(());
        }
    }
}

/// What a connection needs of a socket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What a connection waits for, told by the bytes that have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The first byte of its first request.
    Opening,
    /// The rest of a request head: the one after this many requests.
    Head { after: u64 },
    /// Our own answer. (No handler takes longer than one poll today.)
    Answer,
    /// The next request, which often comes soon after an answer.
    Pause,
    /// The next request, if any.
    Rest,
    /// The client to accept what is written to it.
    Write,
    /// The client to end what it sends, after its last answer.
    Linger,
}

#[derive(Debug, Default)]
struct Progress {
    /// How many requests were taken.
    requests: u64,
    /// The last three bytes that were read.
    tail: [u8; 3],
    /// There are bytes after the last empty line: a request head has begun.
    in_head: bool,
    /// The last request has a body, which stays unread.
    has_body: bool,
    /// The last request's answer is not there yet.
    answering: bool,
    /// What else it waits for, if anything: [`Wait::Write`], [`Wait::Linger`] or [`Wait::Rest`].
    blocked: Option<Wait>,
}

impl Progress {
    fn read(&mut self, bytes: &[u8]) {
        for &byte in &bytes[bytes.len().saturating_sub(3)..] {
            self.tail = [self.tail[1], self.tail[2], byte];
        }
        self.in_head = !(self.tail == *b"\n\r\n" || self.tail.ends_with(b"\n\n"));
    }

    /// What nobody wants: a head after the last answer, or a body.
    fn client_sends(&self) -> bool {
        self.in_head || self.has_body
    }

    fn wait(&self) -> Wait {
        if let Some(wait) = self.blocked {
            wait
        } else if self.answering {
            Wait::Answer
        } else if self.in_head {
            Wait::Head { after: self.requests }
        } else if self.requests == 0 {
            Wait::Opening
        } else {
            Wait::Pause
        }
    }
}

/// Progress is shared within one task only, so nobody ever waits here.
fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends waits that take too long.
struct Watchdog<'a> {
    progress: &'a Mutex<Progress>,
    terms: Terms,
    wait: Wait,
    since: Instant,
    /// How many requests there were when the timer was set.
    requests: u64,
    timer: Pin<Box<Sleep>>,
}

impl<'a> Watchdog<'a> {
    fn new(progress: &'a Mutex<Progress>, terms: Terms) -> Self {
        let (wait, since) = (Wait::Opening, Instant::now());
        let timer = Box::pin(sleep_until(deadline(wait, since, terms)));
        Self { progress, terms, wait, since, requests: 0, timer }
    }

    /// Runs `task` until it is done, or until what the connection waits for has taken too long.
    async fn guard<T>(
        &mut self,
        task: impl Future<Output = T>,
        terms: &mut watch::Receiver<Terms>,
    ) -> Result<T, Wait> {
        let mut task = pin!(task);
        loop {
            tokio::select! {
                biased;
                done = &mut task => return Ok(done),
                waited_for = poll_fn(|cx| self.poll(cx)) => return Err(waited_for),
                Ok(()) = terms.changed() => {
                    self.terms = *terms.borrow_and_update();
                    self.set_timer();
                }
            }
        }
    }

    /// Ready when what the connection waits for has taken too long. To be polled after the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Wait> {
        let (wait, requests) = {
            let progress = lock(self.progress);
            (progress.wait(), progress.requests)
        };
        if wait != self.wait {
            if !matches!(wait, Wait::Opening | Wait::Head { after: 0 }) {
                self.since = Instant::now(); // the first head's time began with the connection's
            }
            self.wait = wait;
            self.requests = requests;
            self.set_timer();
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if wait != Wait::Pause || requests == self.requests {
                return Poll::Ready(wait);
            }
            // it has not paused all that time: look again later, which is cheaper than a timer set for each
            // request
            self.since = Instant::now();
            self.requests = requests;
            self.set_timer();
        }
    }

    fn set_timer(&mut self) {
        self.timer.as_mut().reset(deadline(self.wait, self.since, self.terms));
    }
}

/// When to give up a wait that began then.
fn deadline(wait: Wait, since: Instant, terms: Terms) -> Instant {
    let (limit, must_go) = match wait {
        Wait::Opening => (HEAD_LIMIT, !terms.rest()),
        Wait::Head { .. } => (HEAD_LIMIT, terms.full),
        Wait::Pause => (PAUSE, false),
        Wait::Answer => (REST_LIMIT, false),
        Wait::Rest => (REST_LIMIT, !terms.rest()),
        Wait::Write => (WRITE_LIMIT, false),
        Wait::Linger => (LINGER_LIMIT, false),
    };
    let deadline = since + limit;
    if must_go { deadline.min(Instant::now() + GOING_LIMIT) } else { deadline }
}

/// A socket that keeps the [`Progress`] of its connection.
struct Wire<'a, S> {
    stream: S,
    /// What was read from it, but not by hyper: comes first.
    unread: Bytes,
    progress: &'a Mutex<Progress>,
}

impl<S: Stream> Wire<'_, S> {
    /// Waits for the first byte after a pause; false if the client closes instead.
    async fn rest(&mut self) -> io::Result<bool> {
        lock(self.progress).blocked = Some(Wait::Rest);
        let mut first = [0];
        let length = self.stream.read(&mut first).await?;
        lock(self.progress).blocked = None;
        self.unread = [&self.unread, &first[..length]].concat().into();
        Ok(length > 0)
    }

    fn note_write<T>(&self, written: Poll<T>) -> Poll<T> {
        lock(self.progress).blocked = written.is_pending().then_some(Wait::Write);
        written
    }
}

impl<S: Stream> AsyncRead for Wire<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.unread.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let length = buf.remaining().min(self.unread.len());
            buf.put_slice(&self.unread.split_to(length));
        }
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            lock(self.progress).read(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Wire<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Closes for writing, then reads on while the client may still be sending a head or a body that nobody
    /// wants: closing the socket on unread bytes would reset the connection, and the answer might be lost.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let client_sends = {
            let mut progress = lock(self.progress);
            let client_sends = progress.client_sends();
            progress.blocked = client_sends.then_some(Wait::Linger);
            client_sends
        };
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if !client_sends {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut scratch = [0; 4096];
            let mut unwanted = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut unwanted))?;
            if unwanted.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Time is simulated: it jumps to the next timer whenever every task waits.

    use axum::routing::get;
    use proptest::prelude::*;
    use tokio::{
        io::{DuplexStream, duplex},
        time::sleep,
    };

    use super::{super::port::Phase, *};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    const WELCOME: Terms = Terms { phase: Phase::Serving, full: false };

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
    async fn an_idle_connection_rests_for_two_minutes_and_is_served_again() {
        let (mut client, _terms) = connect();
        for rest in [0, 120, 1, 149, 120] {
            sleep(Duration::from_secs(rest)).await;
            client.write_all(REQUEST).await.expect("still open");
            answer(&mut client).await;
        }
        assert_eq!(closed_after(&mut client).await, REST_LIMIT.as_secs() + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn empty_lines_are_no_request_before_a_rest_or_after() {
        let (mut client, _terms) = connect();
        client.write_all(&[REQUEST, b"\r\n\r\n"].concat()).await.expect("open");
        answer(&mut client).await;
        sleep(Duration::from_mins(1)).await;
        client.write_all(&[b"\r\n\r\n", REQUEST].concat()).await.expect("still open");
        answer(&mut client).await;
        client.write_all(b"\r\n\r\n").await.expect("open");
        assert_eq!(closed_after(&mut client).await, REST_LIMIT.as_secs() + 1);
    }

    /// A connection to a server that takes a minute.
    fn connect_to_slow() -> (DuplexStream, watch::Sender<Terms>) {
        let slow = get(|| async {
            sleep(Duration::from_mins(1)).await;
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
        sleep(Duration::from_mins(1)).await;
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
            sleep(Duration::from_mins(2)).await;
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
        client.write_all(b"GET / HTTP/1.1\r\ncontent-length: 1000000\r\n\r\nabc").await.expect("open");
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
        terms.send_replace(Terms { phase: Phase::Draining, full: false });
        sleep(Duration::from_mins(2)).await;
        client.write_all(REQUEST).await.expect("still open");
        assert!(answer(&mut client).await.contains("connection: close"));
        assert_eq!(closed_after(&mut client).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn resting_and_silent_connections_are_closed_after_1_s_when_stopping_or_full() {
        for unwelcome in
            [Terms { phase: Phase::Stopping, full: false }, Terms { phase: Phase::Serving, full: true }]
        {
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
        terms.send_replace(Terms { phase: Phase::Stopping, full: false });
        sleep(Duration::from_secs(9)).await;
        client.write_all(&REQUEST[9..]).await.expect("still open");
        assert!(answer(&mut client).await.contains("connection: close"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_loses_its_place_when_full() {
        let (mut client, terms) = connect();
        client.write_all(&REQUEST[..9]).await.expect("open");
        tokio::task::yield_now().await;
        terms.send_replace(Terms { phase: Phase::Serving, full: true });
        assert_eq!(closed_after(&mut client).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_may_rest_again_once_others_have_left() {
        let (mut client, terms) = connect();
        terms.send_replace(Terms { phase: Phase::Serving, full: true });
        tokio::task::yield_now().await;
        terms.send_replace(WELCOME);
        sleep(Duration::from_secs(9)).await;
        client.write_all(REQUEST).await.expect("still open");
        answer(&mut client).await;
    }
}
