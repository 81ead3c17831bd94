//! Why a call of a plugin failed.

use std::time::Duration;

use thiserror::Error;

use super::EngineError;
use crate::plugin::Hook;
use plugboard_core::sts_url::StsUrlError;

/// Why a call of a plugin failed, or was not made. The text is for the plugin's author
/// and the operator.
#[derive(Debug, Error)]
pub enum CallError {
    /// The plugin does not export the hook.
    #[error("it exports no {}", .0.interface())]
    NotExported(Hook),
    /// The guest trapped or exited.
    #[error("trap: {source}{}", said.as_deref().map(|s| format!("; it said: {s}")).unwrap_or_default())]
    Trap {
        /// The trap and its location.
        source: EngineError,
        /// The last error that the guest logged, such as a panic's message; else the end
        /// of its standard error, such as a Python traceback.
        said: Option<String>,
    },
    /// The guest trapped after it had been refused memory or a table.
    #[error(
        "it wanted more than its {limit} bytes of memory (limits.memory), or too large a table"
    )]
    MemoryLimitExceeded {
        /// Its memory limit, in bytes.
        limit: usize,
    },
    /// The guest did not answer within this time.
    #[error(
        "no answer within {0:?} (limits.timeout, event_timeout or tool_timeout, or what was left \
         of the budget)"
    )]
    Timeout(Duration),
    /// No instance or CPU permit became free in time.
    #[error("no room to run it in time: other guests had all engine.instances, or the processor")]
    Busy,
    /// The plugin was not called: its circuit breaker is open.
    #[error("it keeps failing and is set aside for a while (breaker.pause)")]
    CircuitOpen,
    /// The guest passed more data at once than the host reads.
    #[error("it passed more than {limit} bytes at once")]
    HostCallDataExceeded {
        /// The limit of the host, in bytes.
        limit: usize,
    },
    /// A text of the answer is too long to be kept.
    #[error("its {what} has {length} bytes; it may have {limit}")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its length, in bytes.
        length: usize,
        /// The longest allowed, in bytes.
        limit: usize,
    },
    /// The hook returned an error.
    #[error("it answered with an error: {0}")]
    GuestError(String),
    /// The answer is not usable JSON.
    #[error("its {what} is no JSON that can be used: {source}")]
    NotJson {
        /// Which text.
        what: &'static str,
        /// The position of the error; quotes nothing of the text.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The speech-to-speech URL of the decision is invalid.
    #[error("its sts-url cannot be used: {0}")]
    InvalidStsUrl(#[from] StsUrlError),
    /// The host panicked during the call: a bug of the host, not of the plugin.
    #[error("the host panicked over it; please report it")]
    HostPanicked,
}

impl CallError {
    /// The label in metrics, the log and `/plugins`; part of the interface.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotExported(_) => "not_exported",
            Self::Trap { .. } => "trap",
            Self::MemoryLimitExceeded { .. } => "memory",
            Self::Timeout(_) => "timeout",
            Self::Busy => "busy",
            Self::CircuitOpen => "set_aside",
            Self::HostCallDataExceeded { .. } => "too_much_data",
            Self::TooLong { .. } => "too_long",
            Self::GuestError(_) => "guest_error",
            Self::NotJson { .. } => "not_json",
            Self::InvalidStsUrl(_) => "bad_url",
            Self::HostPanicked => "host_panicked",
        }
    }
}
