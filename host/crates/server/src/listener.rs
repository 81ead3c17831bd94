//! Listeners: connection limits, timeouts, and graceful shutdown.

mod handshake;
mod write_timeout;

use std::convert::Infallible;
use std::future::{Future, ready};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use futures_util::TryFutureExt;
use futures_util::future::Either;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::handshake::Handshake;
use self::write_timeout::with_write_timeout;
use super::admission::AdmissionPolicy;
use plugboard_tls::Tls;

/// Delay before the next `accept` when the system is out of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Minimum interval of log messages about that.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Length of the accept queue. The usual 128 is too short for a burst of calls: the senders
/// would retry after a second. The system caps it (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// Maximum time for which sent data may stay unacknowledged. Streams send rarely, and would
/// otherwise keep a dead connection for a quarter of an hour.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Listens on an address.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Without this option, a restart must wait for the connections of the last run to expire.
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit the timeout.
    #[cfg(target_os = "linux")]
    SockRef::from(&socket).set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The limits of a listener.
pub(super) struct ListenerLimits {
    /// Maximum number of open connections; further connections wait in the accept queue.
    pub(super) max_connections: usize,
    /// Timeout for the head of a request, also on an idle connection, and for the peer to read
    /// the next part of a response.
    pub(super) header_timeout: Duration,
    /// Timeout for requests in flight after the listener stops.
    pub(super) drain_timeout: Duration,
}

/// A bound listener with its routes.
pub(super) struct Listener<C> {
    /// The socket that accepts connections.
    pub(super) socket: TcpListener,
    /// The routes that answer requests.
    pub(super) routes: Router,
    /// Receives the status of every response.
    pub(super) count_status: C,
    /// The limits of its connections.
    pub(super) limits: ListenerLimits,
    /// The admission policy, if any.
    pub(super) admission: Option<Arc<AdmissionPolicy>>,
    /// The certificate. `None`: plain HTTP.
    pub(super) tls: Option<Arc<Tls>>,
    /// True if requests carry their [`Peer`] as an extension.
    pub(super) exposes_peer: bool,
}

/// The address of the connection's other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

impl<C: Fn(u16) + Clone + Send + Sync + 'static> Listener<C> {
    /// Accepts connections until `stop` is cancelled, then drains: requests in flight
    /// finish, within `drain_timeout`; idle connections and handshakes end at once.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let Self {
            socket,
            routes,
            count_status: count,
            limits,
            admission: gate,
            tls,
            exposes_peer: tells_peer,
        } = self;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
        let connections = Arc::new(Semaphore::new(limits.max_connections));
        let graceful = GracefulShutdown::new();
        let mut last_warning = None;
        loop {
            let (stream, peer, permit) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&socket, &connections, &mut last_warning) => accepted,
            };
            let service =
                connection_service(routes.clone(), gate.clone(), count.clone(), peer, tells_peer);
            let Some(tls) = &tls else {
                let stream = TokioIo::new(with_write_timeout(stream, limits.header_timeout));
                let connection = graceful.watch(http.serve_connection(stream, service));
                tokio::spawn(async move {
                    log_connection_end(connection.await);
                    drop(permit);
                });
                continue;
            };
            let (config, watcher, http) = (tls.server_config(), graceful.watcher(), http.clone());
            let (stop, count) = (stop.clone(), count.clone());
            tokio::spawn(async move {
                let shaken = timeout(
                    limits.header_timeout,
                    handshake::accept_handshake(stream, config, limits.header_timeout),
                );
                let shaken = tokio::select! {
                    () = stop.cancelled() => return,
                    shaken = shaken => shaken.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())),
                };
                match shaken {
                    Ok(Handshake::Tls(stream)) => {
                        let connection = http.serve_connection(TokioIo::new(stream), service);
                        log_connection_end(watcher.watch(connection).await);
                    }
                    Ok(Handshake::Plain(stream)) => {
                        let service = self::connection_service(
                            handshake::https_expected_routes(),
                            None,
                            count,
                            peer,
                            false,
                        );
                        let connection = http.serve_connection(TokioIo::new(stream), service);
                        log_connection_end(watcher.watch(connection).await);
                    }
                    Err(error) => tracing::debug!(%error, "TLS handshake failed"),
                }
                drop(permit);
            });
        }
        // New connections are refused after this.
        drop(socket);
        if timeout(limits.drain_timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!(waited = ?limits.drain_timeout, "stopping with requests in flight");
        }
    }
}

/// The service that answers the requests of one connection.
fn connection_service(
    routes: Router,
    admission: Option<Arc<AdmissionPolicy>>,
    count: impl Fn(u16) + Clone + Send,
    peer: IpAddr,
    exposes_peer: bool,
) -> impl Service<
    Request<Incoming>,
    Response = Response,
    Error = Infallible,
    Future: Future<Output = Result<Response, Infallible>> + Send,
> {
    let routes = TowerToHyperService::new(routes);
    service_fn(move |mut request: Request<Incoming>| {
        if exposes_peer {
            request.extensions_mut().insert(Peer(peer));
        }
        let admission_result =
            admission.as_ref().map_or(Ok(()), |policy| policy.admit(peer, &request));
        let answer = match admission_result {
            Ok(()) => Either::Left(routes.call(request)),
            Err(rejection) => Either::Right(ready(Ok(rejection.into_response()))),
        };
        let count = count.clone();
        answer.map_ok(move |response: Response| {
            count(response.status().as_u16());
            response
        })
    })
}

fn log_connection_end(result: hyper::Result<()>) {
    if let Err(error) = result {
        // The peer closed the connection, or does not speak HTTP.
        tracing::debug!(%error, "connection ended");
    }
}

/// Accepts the next connection, when the limit allows one. `last_warning` is the time of the
/// last log message about missing file descriptors.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    last_warning: &mut Option<Instant>,
) -> (TcpStream, IpAddr, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there always is a permit.
    let permit = Arc::clone(connections).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Each response is one small write, which Nagle's algorithm would only delay.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                return (stream, peer.ip().to_canonical(), permit);
            }
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                let now = Instant::now();
                if last_warning.is_none_or(|at| now >= at + WARN_INTERVAL) {
                    *last_warning = Some(now);
                    tracing::error!(
                        %error,
                        "cannot accept connections, retrying; if too many files are open, raise \
                         the limit (LimitNOFILE=, ulimit -n) or lower limits.max_connections"
                    );
                }
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[tokio::test]
    async fn ipv4_peer_on_ipv6_listener_is_canonical() {
        // Machines without IPv6 cannot run this test.
        let Ok(listener) = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))) else { return };
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Semaphore::new(1));
        let sender = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let mut last_warning = None;
        let (sender, (_, peer, _)) =
            tokio::join!(sender, accept(&listener, &connections, &mut last_warning));
        sender.unwrap();
        assert_eq!(peer, IpAddr::from(Ipv4Addr::LOCALHOST));
    }
}
