//! The port: connections, their limits, and how they end.
//!
//! This is not appinfo's port, which reads no request's body and takes every answer for a short one.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tower::ServiceExt;

/// Connections that may be open at once. Others wait.
const MOST_CONNECTIONS: u32 = 512;
/// How long a request's head may take, from the answer before on: so long is an idle connection kept, too.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// The longest head of a request, in bytes.
const HEAD_BYTES: usize = 16 << 10;
/// How long a client may take no byte of what is sent to it.
const STALLED: Duration = Duration::from_secs(30);
/// How long to wait after a failed accept, which would most likely fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long at the end to accept what is still in the listener's queue.
const BACKLOG_SWEEP: Duration = Duration::from_millis(20);

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    Draining,
    Stopping,
}

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
                tokio::spawn(connection(stream, remote, router.clone(), phase.clone(), slot));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    router: Router,
    mut phase: watch::Receiver<Phase>,
    _slot: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true); // only speed is lost without
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(STALLED)); // else only TCP's own, longer limit
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let service = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(remote));
        let answer = router.clone().oneshot(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // what goes wrong with a connection, its client sees
    select! {
        _ = connection.as_mut() => return,
        _ = phase.wait_for(|phase| *phase == Phase::Stopping) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
