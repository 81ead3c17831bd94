//! Error of a call of a plugin.

use std::time::Duration;

use thiserror::Error;

use super::EngineError;
use crate::plugin::contract::Hook;
use plugboard_core::sts_url::StsUrlError;

/// Error of a call of a plugin, or reason why it was not made. The text is for the plugin's
/// author and the operator.
#[derive(Debug, Error)]
pub enum CallError {
    /// The plugin does not export the hook.
    #[error("the plugin does not export the hook {}", .0.interface())]
    NotExported(Hook),
    /// The guest trapped or exited.
    #[error("trap: {source}{}", last_message.as_deref().map(|s| format!("; last message: {s}")).unwrap_or_default())]
    Trap {
        /// Trap and its location.
        source: EngineError,
        /// Last error that the guest logged, such as a panic's message; else the end of its
        /// standard error, such as a Python traceback.
        last_message: Option<String>,
    },
    /// The guest trapped after it had been refused memory or a table.
    #[error(
        "the plugin needs more than {limit} bytes of memory (limits.memory), or a table above the \
         limit"
    )]
    MemoryLimitExceeded {
        /// Memory limit of the plugin, in bytes.
        limit: usize,
    },
    /// The guest did not answer within this time.
    #[error(
        "no answer within {0:?} (limits.timeout, event_timeout or tool_timeout, or the rest of \
         the request's time limit)"
    )]
    Timeout(Duration),
    /// No instance or CPU permit became free in time.
    #[error(
        "timed out waiting for an instance: other plugins used all engine.instances or the \
         processor"
    )]
    Busy,
    /// The plugin was not called: its circuit breaker is open.
    #[error("the plugin was skipped: its circuit breaker is open (circuit_breaker.open_duration)")]
    CircuitOpen,
    /// The guest passed more data at once than the host reads.
    #[error("the plugin passed more than {limit} bytes in one call")]
    HostCallDataExceeded {
        /// Limit of the host, in bytes.
        limit: usize,
    },
    /// A text of the answer is too long.
    #[error("the plugin's {what} has {length} bytes; expected at most {limit}")]
    TooLong {
        /// Name of the text.
        what: &'static str,
        /// Length of the text, in bytes.
        length: usize,
        /// Maximum length, in bytes.
        limit: usize,
    },
    /// The hook returned an error.
    #[error("the plugin returned an error: {0}")]
    GuestError(String),
    /// The answer is not usable JSON.
    #[error("the plugin's {what} is not usable JSON: {source}")]
    NotJson {
        /// Name of the text.
        what: &'static str,
        /// Position of the error; does not quote the text.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The speech-to-speech URL of the decision is invalid.
    #[error("the plugin's sts-url is invalid: {0}")]
    InvalidStsUrl(#[from] StsUrlError),
    /// The host panicked during the call: a bug of the host, not of the plugin.
    #[error("Plugboard panicked while it called the plugin; please report it")]
    HostPanicked,
}

impl CallError {
    /// Returns the label in metrics, the log and `/plugins`, which is part of the interface.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotExported(_) => "not_exported",
            Self::Trap { .. } => "trap",
            Self::MemoryLimitExceeded { .. } => "memory",
            Self::Timeout(_) => "timeout",
            Self::Busy => "busy",
            Self::CircuitOpen => "circuit_open",
            Self::HostCallDataExceeded { .. } => "too_much_data",
            Self::TooLong { .. } => "too_long",
            Self::GuestError(_) => "guest_error",
            Self::NotJson { .. } => "not_json",
            Self::InvalidStsUrl(_) => "invalid_url",
            Self::HostPanicked => "host_panicked",
        }
    }
}
