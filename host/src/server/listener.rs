//! Connections: how many, how long they may idle, and how they end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

/// How long to wait when the system has no connection to give (out of file
/// descriptors), before asking again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that the system keeps until they are taken. More than the usual
/// 128, beyond which a burst of calls would have to knock again a second later;
/// the system caps it (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// Listens on an address.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Or a restart would have to wait for the connections of the last run.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Bounds of one listener.
pub(super) struct Bounds {
    /// Open at the same time; more wait in the system's backlog.
    pub(super) connections: usize,
    /// For the head of a request, which covers an idle connection as well, and
    /// for the other side to take the next piece of an answer.
    pub(super) header_timeout: Duration,
    /// For requests in flight once the listener shall end.
    pub(super) drain: Duration,
}

/// Takes connections until `stop` resolves, then lets those that are in a
/// request finish it. `count` is told the status of every answer.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    count: impl Fn(u16) + Clone + Send + 'static,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.header_timeout);
    let counted =
        ServiceExt::<Request<Incoming>>::map_response(routes, move |response: Response| {
            count(response.status().as_u16());
            response
        });
    let service = TowerToHyperService::new(counted);
    let connections = Arc::new(Semaphore::new(bounds.connections));
    let graceful = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, place) = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        // Or whoever asks and never reads the answers would stay for ever.
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(bounds.header_timeout));
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                // The other side went away or spoke no HTTP.
                tracing::debug!(%error, "connection ended");
            }
            drop(place);
        });
    }
    // Nobody new: what waits in the backlog is told so at once.
    drop(listener);
    if tokio::time::timeout(bounds.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(waited = ?bounds.drain, "stopping with requests in flight");
    }
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there always is a permit.
    let place = Arc::clone(connections).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are one small write each; waiting for more to send
                // only delays them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY");
                }
                return (stream, place);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot take connections; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
