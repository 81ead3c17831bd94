//! The dialects of the voice platforms: who may speak (on raw bytes, before
//! anything is parsed), what they say as an [`Event`](crate::event::Event), and
//! an [`Outcome`](crate::router::Outcome) in their words. A file each; nothing
//! here knows of WebAssembly or of sockets.

pub mod avr;

use thiserror::Error;

/// The sender did not show the secret.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Unauthorized(pub &'static str);

/// The body is not what the platform sends.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct BadRequest {
    /// Names the field. It may quote what stood there, so it is for the sender
    /// and not for the log.
    pub message: String,
}
