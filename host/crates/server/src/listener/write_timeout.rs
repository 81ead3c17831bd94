//! Connections with a write timeout.

use std::pin::Pin;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

/// A connection with a write timeout.
pub(super) type WriteTimeoutStream = Pin<Box<TimeoutStream<TcpStream>>>;

/// Returns a connection that is closed when its peer does not read. Otherwise it would stay
/// open indefinitely.
pub(super) fn with_write_timeout(stream: TcpStream, write_timeout: Duration) -> WriteTimeoutStream {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(write_timeout));
    Box::pin(stream)
}
