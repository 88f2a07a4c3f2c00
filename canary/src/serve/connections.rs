//! The port: connections, their limits, and how they end.
//!
//! This is not appinfo's port, which reads no request's body and takes every answer for a short one.

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
/// How long a request's head may take, from the answer before on: so long is an idle connection kept, too.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// The longest head of a request, in bytes.
const HEAD_BYTES: usize = 16 << 10;
/// How long a client may take no byte of what is sent to it.
const STALLED: Duration = Duration::from_secs(30);
/// Bytes that the kernel keeps for a client (Linux keeps twice as many). By itself it keeps megabytes, and a viewer
/// who is slow would have to read them all before the newest state.
const SEND_BUFFER: usize = 64 << 10;
/// How long to wait after a failed accept, which would most likely fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long at the end to accept what is still in the listener's queue.
const BACKLOG_SWEEP: Duration = Duration::from_millis(20);

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long to go on answering while others still send requests here. `/readyz` says 503 by then, and every
    /// answer `connection: close`.
    pub delay: Duration,
    /// After that, how long requests may take to end.
    pub timeout: Duration,
}

/// Serves until `end` is ready, and then drains as it says. Returns when all connections have ended, or when the
/// time for that is over.
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

/// Accepts connections until the server stops. Those that the kernel has established by then are accepted too:
/// they would be reset when the listener is closed.
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
                // it can be served without
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
    // what goes wrong with a connection, its client sees
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
