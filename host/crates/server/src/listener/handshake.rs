//! The first bytes of a connection to a TLS listener.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::write_timeout::{WriteTimeoutStream, with_write_timeout};
use crate::error::ErrorResponse;

/// First byte of a TLS handshake: the record type (RFC 8446, 5.1).
const TLS_HANDSHAKE_RECORD: u8 = 22;

/// An accepted connection after its first bytes.
pub(super) enum Handshake {
    /// The TLS handshake is complete.
    Tls(Box<TlsStream<WriteTimeoutStream>>),
    /// The peer does not speak TLS. It may speak HTTP.
    Plain(WriteTimeoutStream),
}

/// Accepts a connection, without a timeout of its own.
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

/// Returns the routes for plain HTTP on a TLS listener. Their error names the mistake, an
/// `http://` URL in the platform's settings.
pub(super) fn https_expected_routes() -> Router {
    Router::new().fallback(async || ErrorResponse::https_expected())
}
