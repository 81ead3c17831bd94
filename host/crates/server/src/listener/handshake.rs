//! The beginning of a connection to a listener that speaks TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{WriteTimeoutStream, with_write_timeout};
use crate::error::ErrorResponse;

/// How every handshake begins: the type of its record (RFC 8446, 5.1).
const TLS_HANDSHAKE_RECORD: u8 = 22;

/// A connection that has begun.
pub(super) enum Handshake {
    /// The other side has seen our certificate.
    Tls(Box<TlsStream<WriteTimeoutStream>>),
    /// The other side does not speak TLS. Perhaps it speaks HTTP.
    Plain(WriteTimeoutStream),
}

/// Begins a connection. Takes for ever if the other side likes.
pub(super) async fn accept_handshake(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    write_timeout: Duration,
) -> io::Result<Handshake> {
    let mut first = [0];
    let length = stream.peek(&mut first).await?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let stream = with_write_timeout(stream, write_timeout);
    if first != [TLS_HANDSHAKE_RECORD] {
        return Ok(Handshake::Plain(stream));
    }
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    Ok(Handshake::Tls(Box::new(stream)))
}

/// What answers HTTP where https is expected: whoever wrote `http://` in the settings
/// of a platform is told so.
pub(super) fn https_expected_routes() -> Router {
    Router::new().fallback(async || ErrorResponse::https_expected())
}
