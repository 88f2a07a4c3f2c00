//! The port: connections, their limits, and the drain.
//!
//! This does not use appinfo's port, which reads no request bodies and expects short answers.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use appinfo::server::Phase;
use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    select,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutWriter;
use tower::ServiceExt;

/// Connections that may be open at once. Others wait.
const MOST_CONNECTIONS: u32 = 512;
/// The time limit of a request's head, from the last answer on. So it is also the limit of an idle connection.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// The longest head of a request, in bytes.
const HEAD_BYTES: usize = 16 << 10;
/// The time after which a client that reads nothing is cut off.
const STALLED: Duration = Duration::from_secs(30);
/// The size of a connection's send buffer, in bytes (Linux doubles it). The default is megabytes, and a slow
/// viewer would have to read all of it before the newest state.
const SEND_BUFFER: usize = 64 << 10;
/// The pause after a failed accept: the next one would probably fail, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long to accept connections from the listener's queue at the end.
const BACKLOG_SWEEP: Duration = Duration::from_millis(20);

/// The drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long to go on answering, because clients still send requests here. `/readyz` already says 503, and
    /// every answer `connection: close`.
    pub delay: Duration,
    /// After that, the time limit of open requests.
    pub timeout: Duration,
}

/// Serves until `end` is ready, and then drains. Returns when all connections have ended, or at the time limit.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    phase: &watch::Sender<Phase>,
    end: impl Future<Output = Drain>,
) {
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS as usize));
    let accept = accept(listener, router, Arc::clone(&slots), phase.subscribe());
    let mut accept = tokio::spawn(accept);
    let drain = end.await;
    phase.send_replace(Phase::Draining);
    sleep(drain.delay).await;
    phase.send_replace(Phase::Stopping);
    let all_ended = async {
        let _ = (&mut accept).await;
        let _all = slots.acquire_many(MOST_CONNECTIONS).await;
    };
    if timeout(drain.timeout, all_ended).await.is_err() {
        accept.abort();
    }
}

/// Accepts connections until the server stops. It also accepts those that the kernel has established by then:
/// closing the listener would reset them.
async fn accept(
    listener: TcpListener,
    router: Router,
    slots: Arc<Semaphore>,
    mut phase: watch::Receiver<Phase>,
) {
    let accept_all = || accept_all(&listener, &router, &slots, phase.clone());
    let accepting = accept_all();
    let sweep = accept_all();
    select! {
        () = accepting => {}
        _ = phase.wait_for(|phase| *phase == Phase::Stopping) => {}
    }
    let _ = timeout(BACKLOG_SWEEP, sweep).await;
}

async fn accept_all(
    listener: &TcpListener,
    router: &Router,
    slots: &Arc<Semaphore>,
    phase: watch::Receiver<Phase>,
) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, remote)) => {
                // the connection works without this option, too
                let _ = (stream.set_nodelay(true), SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER));
                let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                tokio::spawn(connection(stream, remote, router.clone(), phase.clone(), slot));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    remote: SocketAddr,
    router: Router,
    mut phase: watch::Receiver<Phase>,
    _slot: OwnedSemaphorePermit,
) {
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(STALLED));
    let service = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(remote));
        let answer = router.clone().oneshot(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(http.serve_connection(TokioIo::new(Box::pin(stream)), service));
    // the client sees errors of its connection
    select! {
        _ = connection.as_mut() => return,
        _ = phase.wait_for(|phase| *phase == Phase::Stopping) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::{body::Bytes, routing::get};
    use futures_util::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_byte_for_a_while_is_cut_off_and_one_that_is_slow_is_not() {
        let endless = || stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b'a'; 1024])));
        let router = Router::new().route("/", get(async move || Body::from_stream(endless())));
        let slots = Arc::new(Semaphore::new(1));
        let slot = Arc::clone(&slots).acquire_owned().await.expect("a slot");
        let phase = watch::Sender::new(Phase::Serving);
        let (mut client, server) = duplex(1024);
        let remote = (Ipv4Addr::LOCALHOST, 1).into();
        let mut connection = tokio::spawn(connection(server, remote, router, phase.subscribe(), slot));
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("it reads");
        for _ in 0..3 {
            assert!(
                timeout(STALLED.saturating_sub(SECOND), &mut connection).await.is_err(),
                "a byte was taken"
            );
            client.read_u8().await.expect("it sends");
        }
        assert!(timeout(STALLED.saturating_sub(SECOND), &mut connection).await.is_err());
        timeout(2 * SECOND, connection).await.expect("it is cut off").expect("no panic");
        assert_eq!(slots.available_permits(), 1);
    }
}
