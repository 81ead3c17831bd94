//! Connections: how many, how long they may idle, and how they end.

mod handshake;

use std::convert::Infallible;
use std::future::{Future, ready};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_io_timeout::TimeoutStream;

use self::handshake::Shaken;
use super::senders::Gate;
use super::tls::Tls;

/// How long to wait when the system has no connection to give (out of file
/// descriptors), before asking again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is told that the system has none.
const COMPLAINT: Duration = Duration::from_secs(60);

/// Connections that the system keeps until they are taken. More than the usual
/// 128, beyond which a burst of calls would have to knock again a second later;
/// the system caps it (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// How long what was sent may wait for the other side's acknowledgement. What is sent
/// now and then, as to those who read along, would otherwise keep a connection for a
/// quarter of an hour of which the other end is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// A connection as it is served.
type Bounded = Pin<Box<TimeoutStream<TcpStream>>>;

/// Listens on an address.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Or a restart would have to wait for the connections of the last run.
    socket.set_reuseaddr(true)?;
    // Its connections inherit it.
    #[cfg(target_os = "linux")]
    SockRef::from(&socket).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
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

/// Where requests come in.
pub(super) struct Listener<C> {
    /// Where connections come from.
    pub(super) socket: TcpListener,
    /// What answers requests.
    pub(super) routes: Router,
    /// Is told the status of every answer.
    pub(super) count: C,
    /// Its bounds.
    pub(super) bounds: Bounds,
    /// Who keeps senders out, if anybody does.
    pub(super) gate: Option<Arc<Gate>>,
    /// The certificate to show. None: plain HTTP is spoken.
    pub(super) tls: Option<Arc<Tls>>,
    /// Whether routes are told who asks: a [`Peer`] among a request's extensions.
    pub(super) tells_peer: bool,
}

/// The address that a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

impl<C: Fn(u16) + Clone + Send + Sync + 'static> Listener<C> {
    /// Takes connections until `stop` resolves, then lets those that are in a
    /// request finish it.
    pub(super) async fn serve(self, stop: impl Future<Output = ()>) {
        let Self { socket, routes, count, bounds, gate, tls, tells_peer } = self;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(bounds.header_timeout);
        let connections = Arc::new(Semaphore::new(bounds.connections));
        let graceful = GracefulShutdown::new();
        // Gone when no handshake is waited for any more.
        let (open, closing) = watch::channel(());
        let mut stop = pin!(stop);
        let mut complained = None;
        loop {
            let (stream, peer, place) = tokio::select! {
                () = &mut stop => break,
                accepted = accept(&socket, &connections, &mut complained) => accepted,
            };
            let service = service(routes.clone(), gate.clone(), count.clone(), peer, tells_peer);
            let Some(tls) = &tls else {
                let stream = TokioIo::new(bounded(stream, bounds.header_timeout));
                let connection = graceful.watch(http.serve_connection(stream, service));
                tokio::spawn(async move {
                    told(connection.await);
                    drop(place);
                });
                continue;
            };
            let (config, watcher, http) = (tls.config(), graceful.watcher(), http.clone());
            let (mut closing, count) = (closing.clone(), count.clone());
            tokio::spawn(async move {
                let shaken = timeout(
                    bounds.header_timeout,
                    handshake::shake_hands(stream, config, bounds.header_timeout),
                );
                let shaken = tokio::select! {
                    _ = closing.changed() => return,
                    shaken = shaken => shaken.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())),
                };
                match shaken {
                    Ok(Shaken::Secure(stream)) => {
                        let connection = http.serve_connection(TokioIo::new(stream), service);
                        told(watcher.watch(connection).await);
                    }
                    Ok(Shaken::Plain(stream)) => {
                        let service = self::service(handshake::plain(), None, count, peer, false);
                        let connection = http.serve_connection(TokioIo::new(stream), service);
                        told(watcher.watch(connection).await);
                    }
                    Err(error) => tracing::debug!(%error, "no handshake"),
                }
                drop(place);
            });
        }
        // Nobody new: what waits in the backlog is told so at once.
        drop(socket);
        drop(open);
        if timeout(bounds.drain, graceful.shutdown()).await.is_err() {
            tracing::warn!(waited = ?bounds.drain, "stopping with requests in flight");
        }
    }
}

/// What answers the requests of one connection.
fn service(
    routes: Router,
    gate: Option<Arc<Gate>>,
    count: impl Fn(u16) + Clone + Send,
    peer: IpAddr,
    tells_peer: bool,
) -> impl Service<
    Request<Incoming>,
    Response = Response,
    Error = Infallible,
    Future: Future<Output = Result<Response, Infallible>> + Send,
> {
    let routes = TowerToHyperService::new(routes);
    service_fn(move |mut request: Request<Incoming>| {
        if tells_peer {
            request.extensions_mut().insert(Peer(peer));
        }
        let admitted = gate.as_ref().map_or(Ok(()), |gate| gate.admit(peer, &request));
        let answer = match admitted {
            Ok(()) => Either::Left(routes.call(request)),
            Err(refusal) => Either::Right(ready(Ok(refusal.into_response()))),
        };
        let count = count.clone();
        answer.map_ok(move |response: Response| {
            count(response.status().as_u16());
            response
        })
    })
}

/// A connection whose other side takes what it is sent, or is let go: whoever asks and
/// never reads the answers would stay for ever.
fn bounded(stream: TcpStream, patience: Duration) -> Bounded {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience));
    Box::pin(stream)
}

fn told(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        // The other side went away or spoke no HTTP.
        tracing::debug!(%error, "connection ended");
    }
}

/// The next connection and the address that it comes from, once there is room for one.
/// That the system has none to give was `complained` about then.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    complained: &mut Option<Instant>,
) -> (TcpStream, IpAddr, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there always is a permit.
    let place = Arc::clone(connections).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are one small write each; waiting for more to send
                // only delays them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY");
                }
                return (stream, peer.ip().to_canonical(), place);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                let now = Instant::now();
                if complained.is_none_or(|last| now >= last + COMPLAINT) {
                    *complained = Some(now);
                    tracing::error!(
                        %error,
                        "cannot take connections and keeps trying; if these are too many open \
                         files, allow more (LimitNOFILE=, ulimit -n) or lower limits.connections"
                    );
                }
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[tokio::test]
    async fn ipv4_is_ipv4_also_on_an_ipv6_listener() {
        // Machines without IPv6 have nothing to mistake.
        let Ok(listener) = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))) else { return };
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Semaphore::new(1));
        let sender = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let mut complained = None;
        let (sender, (_, peer, _)) =
            tokio::join!(sender, accept(&listener, &connections, &mut complained));
        sender.unwrap();
        assert_eq!(peer, IpAddr::from(Ipv4Addr::LOCALHOST));
    }
}
