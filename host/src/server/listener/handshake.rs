//! The beginning of a connection to a listener that speaks TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Bounded, bounded};
use crate::server::error::HttpError;

/// How every handshake begins: the type of its record (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;

/// A connection that has begun.
pub(super) enum Shaken {
    /// The other side has seen our certificate.
    Secure(Box<TlsStream<Bounded>>),
    /// The other side does not speak TLS. Perhaps it speaks HTTP.
    Plain(Bounded),
}

/// Begins a connection. Takes for ever if the other side likes.
pub(super) async fn shake_hands(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    patience: Duration,
) -> io::Result<Shaken> {
    let mut first = [0];
    let length = stream.peek(&mut first).await?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let stream = bounded(stream, patience);
    if first != [HANDSHAKE] {
        return Ok(Shaken::Plain(stream));
    }
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    Ok(Shaken::Secure(Box::new(stream)))
}

/// What answers HTTP where https is expected: whoever wrote `http://` in the settings
/// of a platform is told so.
pub(super) fn plain() -> Router {
    Router::new().fallback(async || HttpError::https_expected())
}
