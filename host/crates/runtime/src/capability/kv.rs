//! Key-value capability: a namespace of the store for each plugin, by grant, with a
//! quota.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::plugin::spans;
use plugboard_config::KvConfig;
use plugboard_core::span::in_span;
use plugboard_store::{self as store, KvAnswer, KvCommand, Store, StoreError};

/// The values of one plugin.
#[derive(Clone)]
pub struct Kv {
    plugin: Arc<str>,
    granted: bool,
    limits: KvConfig,
    /// None where nothing is kept: when plugins are only judged.
    store: Option<Arc<dyn Store>>,
}

/// Why a value is not read or written. The texts are for the plugin and its
/// author.
#[derive(Debug, Error)]
pub enum GuestKvError {
    /// The settings say nothing of it.
    #[error("not granted; the operator can set `grants.kv = true` in the plugin's settings")]
    NotGranted,
    /// A key or value that is not one.
    #[error("{0}")]
    TooLarge(String),
    /// The namespace is full.
    #[error("{0}")]
    Quota(String),
    /// `increment` of something else.
    #[error("the value is no number, or the sum has more than 64 bits")]
    NotANumber,
    /// The store itself.
    #[error("{0}")]
    Unavailable(String),
}

impl GuestKvError {
    /// The word for metrics and logs.
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
        // Not the details, which are the operator's: paths, and what the disk says.
        Self::Unavailable(match error {
            StoreError::Unavailable(_) => "the store cannot be used now".to_owned(),
            other => other.to_string(),
        })
    }
}

impl Kv {
    /// The values of a plugin.
    pub fn new(
        plugin: Arc<str>,
        granted: bool,
        limits: KvConfig,
        store: Option<Arc<dyn Store>>,
    ) -> Self {
        Self { plugin, granted, limits, store }
    }

    /// Reads or writes.
    ///
    /// # Errors
    ///
    /// When it is not granted, breaks a bound, or the store cannot.
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
            let message = format!("the key has {length} bytes; it may have 1 to {max_key}");
            return Err(GuestKvError::TooLarge(message));
        }
        if let KvCommand::Set { value, .. } | KvCommand::Swap { value, .. } = &command
            && value.len() > max_value
        {
            let length = value.len();
            let message = format!("the value has {length} bytes; it may have {max_value}");
            return Err(GuestKvError::TooLarge(message));
        }
        let store = self.store.as_ref().ok_or(StoreError::Closed)?;
        Ok(store.kv(Arc::clone(&self.plugin), key, command).await?)
    }
}

/// The contract's time to live.
pub fn ttl(milliseconds: Option<u64>) -> Option<Duration> {
    milliseconds.map(Duration::from_millis)
}
