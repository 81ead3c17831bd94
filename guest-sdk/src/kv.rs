//! Key-value storage: state that outlives a call. Each plugin sees only its own values,
//! and all versions of the plugin share them. A write is durable when its function
//! returns. The settings grant it: `[grants] kv = true`.
//!
//! ```no_run
//! # use plugboard_sdk::prelude::*;
//! # fn example() -> Result<()> {
//! kv::set_for("greeted", b"yes", Duration::from_secs(3600))?;
//! let calls = kv::increment("calls", 1)?;
//! // Events of other calls run at the same time. `update_json` reads and writes back
//! // without losing their changes.
//! let names: Vec<String> = kv::update_json("names", |names: Option<Vec<String>>| {
//!     let mut names = names.unwrap_or_default();
//!     names.push("Ada".to_owned());
//!     names
//! })?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{self, Error as AnyError};
use crate::host;

/// Number of attempts of [`update_json`]. An attempt fails only if another call has changed
/// the value.
const TRIES: u32 = 16;

/// The error of an operation on the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The settings do not grant storage.
    NotGranted,
    /// The key is empty or too long, or the value is too long. The text names the limit.
    TooLarge(String),
    /// The plugin's storage is full. The text names the limit.
    Quota(String),
    /// The value that `increment` found is not a number, or the sum is out of range.
    NotANumber,
    /// The store cannot be reached at the moment.
    Unavailable(String),
    /// Other calls changed the value during every attempt of `update_json`.
    Contended,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted => {
                f.write_str("kv: not granted; the plugin's settings need `[grants] kv = true`")
            }
            Self::TooLarge(why) => write!(f, "kv: too large: {why}"),
            Self::Quota(why) => write!(f, "kv: the plugin's storage is full: {why}"),
            Self::NotANumber => {
                f.write_str("kv: the value is not a number, or the sum is out of range")
            }
            Self::Unavailable(why) => write!(f, "kv: the store cannot be reached: {why}"),
            Self::Contended => {
                write!(f, "kv: other calls changed the value during each of {TRIES} attempts")
            }
        }
    }
}

impl std::error::Error for Error {}

/// Returns the value of a key.
///
/// # Errors
///
/// If the store rejects the operation; see [`Error`].
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::kv_get(key)
}

/// Returns the value of a key as text.
///
/// # Errors
///
/// If the store rejects the operation, or the value is not UTF-8.
pub fn get_text(key: &str) -> error::Result<Option<String>> {
    let Some(value) = get(key)? else { return Ok(None) };
    // Without the key and the value: they can be a caller's number or words.
    String::from_utf8(value).map(Some).map_err(|_| AnyError::new("kv: the value is not UTF-8"))
}

/// Returns the value of a key, deserialized from JSON.
///
/// # Errors
///
/// If the store rejects the operation, or the value is not JSON that matches `T`.
pub fn get_json<T: DeserializeOwned>(key: &str) -> error::Result<Option<T>> {
    get(key)?.as_deref().map(parse).transpose()
}

/// Sets the value of a key. It does not expire.
///
/// # Errors
///
/// If the store rejects the operation.
pub fn set(key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
    host::kv_set(key, value.as_ref(), None)
}

/// Sets the value of a key. It expires after `ttl`.
///
/// # Errors
///
/// If the store rejects the operation.
pub fn set_for(key: &str, value: impl AsRef<[u8]>, ttl: Duration) -> Result<(), Error> {
    host::kv_set(key, value.as_ref(), Some(ttl))
}

/// Sets the value of a key to JSON. It does not expire.
///
/// # Errors
///
/// If the store rejects the operation, or the value cannot be serialized as JSON.
pub fn set_json<T: Serialize>(key: &str, value: &T) -> error::Result<()> {
    Ok(host::kv_set(key, &serde_json::to_vec(value)?, None)?)
}

/// Sets the value of a key to JSON. It expires after `ttl`.
///
/// # Errors
///
/// If the store rejects the operation, or the value cannot be serialized as JSON.
pub fn set_json_for<T: Serialize>(key: &str, value: &T, ttl: Duration) -> error::Result<()> {
    Ok(host::kv_set(key, &serde_json::to_vec(value)?, Some(ttl))?)
}

/// Removes a key, and returns whether it existed.
///
/// # Errors
///
/// If the store rejects the operation.
pub fn delete(key: &str) -> Result<bool, Error> {
    host::kv_delete(key)
}

/// Adds to a number atomically, and returns the sum. A missing key counts as 0, and
/// its new value does not expire. The value is stored as decimal text.
///
/// # Errors
///
/// If the store rejects the operation, the value is not a number, or the sum is out of
/// range.
pub fn increment(key: &str, by: i64) -> Result<i64, Error> {
    host::kv_increment(key, by, None)
}

/// Does the same as [`increment`]. If the key did not exist, the value expires after `ttl`.
///
/// # Errors
///
/// If the store rejects the operation, the value is not a number, or the sum is out of
/// range.
pub fn increment_for(key: &str, by: i64, ttl: Duration) -> Result<i64, Error> {
    host::kv_increment(key, by, Some(ttl))
}

/// Sets the value of a key if the current value equals `expected` (`None`: if the key does
/// not exist). Returns whether the value was set. It does not expire.
///
/// # Errors
///
/// If the store rejects the operation.
pub fn compare_and_swap(
    key: &str,
    expected: Option<&[u8]>,
    value: impl AsRef<[u8]>,
) -> Result<bool, Error> {
    host::kv_compare_and_swap(key, expected, value.as_ref(), None)
}

/// Does the same as [`compare_and_swap`]. The new value expires after `ttl`.
///
/// # Errors
///
/// If the store rejects the operation.
pub fn compare_and_swap_for(
    key: &str,
    expected: Option<&[u8]>,
    value: impl AsRef<[u8]>,
    ttl: Duration,
) -> Result<bool, Error> {
    host::kv_compare_and_swap(key, expected, value.as_ref(), Some(ttl))
}

/// Reads a JSON value, changes it and writes it back. Returns the new value, which does not
/// expire.
///
/// If another call changes the value in the meantime, it starts again with the value of
/// that call, at most 16 times. `change` can therefore run several times, and should have
/// no other effects.
///
/// # Errors
///
/// If the store rejects an operation, the old value is not JSON that matches `T`, or other
/// calls change the value during every attempt ([`Error::Contended`]).
pub fn update_json<T: Serialize + DeserializeOwned>(
    key: &str,
    change: impl FnMut(Option<T>) -> T,
) -> error::Result<T> {
    update(key, None, change)
}

/// Does the same as [`update_json`]. The new value expires after `ttl`.
///
/// # Errors
///
/// The same as of [`update_json`].
pub fn update_json_for<T: Serialize + DeserializeOwned>(
    key: &str,
    ttl: Duration,
    change: impl FnMut(Option<T>) -> T,
) -> error::Result<T> {
    update(key, Some(ttl), change)
}

fn update<T: Serialize + DeserializeOwned>(
    key: &str,
    ttl: Option<Duration>,
    mut change: impl FnMut(Option<T>) -> T,
) -> error::Result<T> {
    for _ in 0..TRIES {
        let old = get(key)?;
        let value = change(old.as_deref().map(parse).transpose()?);
        let new = serde_json::to_vec(&value)?;
        if host::kv_compare_and_swap(key, old.as_deref(), &new, ttl)? {
            return Ok(value);
        }
    }
    Err(Error::Contended.into())
}

fn parse<T: DeserializeOwned>(value: &[u8]) -> error::Result<T> {
    // Without the key and serde's message, which quotes the value.
    serde_json::from_slice(value).map_err(|_| {
        AnyError::new(format_args!(
            "kv: the value does not match the type {}",
            std::any::type_name::<T>()
        ))
    })
}
