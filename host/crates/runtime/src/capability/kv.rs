//! Key-value capability: a namespace of the store for each plugin, by grant, with a
//! quota.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::spans;
use plugboard_config::KvConfig;
use plugboard_core::span::in_span;
use plugboard_store::{self as store, KvAnswer, KvCommand, Store, StoreError};

/// Values of one plugin, with its limits.
#[derive(Clone)]
pub struct Kv {
    plugin: Arc<str>,
    granted: bool,
    limits: KvConfig,
    /// `None` if plugins are only examined and values are not stored.
    store: Option<Arc<dyn Store>>,
}

/// Error of reading or writing a value. The texts are for the plugin and its author.
#[derive(Debug, Error)]
pub enum GuestKvError {
    /// The settings do not grant the capability.
    #[error("not granted; the operator can set `grants.kv = true` in the plugin's settings")]
    NotGranted,
    /// The key is empty, or the key or the value is too long.
    #[error("{0}")]
    TooLarge(String),
    /// The values of the plugin have reached their quota.
    #[error("{0}")]
    Quota(String),
    /// `increment` of a value that is not a number, or beyond 64 bits.
    #[error("the value is not a number, or the sum exceeds 64 bits")]
    NotANumber,
    /// The store failed or is closed.
    #[error("{0}")]
    Unavailable(String),
}

impl GuestKvError {
    /// Returns the label for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotGranted => "not_granted",
            Self::TooLarge(_) => "too_large",
            Self::Quota(_) => "quota",
            Self::NotANumber => "not_a_number",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

impl From<store::KvError> for GuestKvError {
    fn from(error: store::KvError) -> Self {
        match error {
            store::KvError::Quota(_) => Self::Quota(error.to_string()),
            store::KvError::NotANumber => Self::NotANumber,
            store::KvError::Store(error) => Self::from(error),
        }
    }
}

impl From<StoreError> for GuestKvError {
    fn from(error: StoreError) -> Self {
        // Hides the details, such as paths and system errors, which only the operator may see.
        Self::Unavailable(match error {
            StoreError::Unavailable(_) => "the store is unavailable".to_owned(),
            other => other.to_string(),
        })
    }
}

impl Kv {
    /// Creates the capability of one plugin.
    pub fn new(
        plugin: Arc<str>,
        granted: bool,
        limits: KvConfig,
        store: Option<Arc<dyn Store>>,
    ) -> Self {
        Self { plugin, granted, limits, store }
    }

    /// Runs one command on a key.
    ///
    /// # Errors
    ///
    /// Fails without a grant, beyond a limit, or if the store fails.
    pub async fn run(&self, key: String, command: KvCommand) -> Result<KvAnswer, GuestKvError> {
        let span = spans::kv_span(&key, &command);
        in_span(span, GuestKvError::label, self.execute(key, command)).await
    }

    async fn execute(&self, key: String, command: KvCommand) -> Result<KvAnswer, GuestKvError> {
        if !self.granted {
            return Err(GuestKvError::NotGranted);
        }
        let KvConfig { max_key, max_value, .. } = self.limits;
        if key.is_empty() || key.len() > max_key {
            let length = key.len();
            let message = format!("the key has {length} bytes; expected 1 to {max_key}");
            return Err(GuestKvError::TooLarge(message));
        }
        if let KvCommand::Set { value, .. } | KvCommand::Swap { value, .. } = &command
            && value.len() > max_value
        {
            let length = value.len();
            let message = format!("the value has {length} bytes; expected at most {max_value}");
            return Err(GuestKvError::TooLarge(message));
        }
        let store = self.store.as_ref().ok_or(StoreError::Closed)?;
        Ok(store.kv(Arc::clone(&self.plugin), key, command).await?)
    }
}

/// Converts the contract's time to live, in milliseconds.
pub fn ttl(milliseconds: Option<u64>) -> Option<Duration> {
    milliseconds.map(Duration::from_millis)
}
