//! State that outlives a call: keys and values that every version of the plugin
//! shares, and nobody else sees. The settings grant it: `[grants] kv = true`.
//!
//! ```no_run
//! # use plugboard_sdk::prelude::*;
//! # fn example() -> Result<()> {
//! kv::set_for("greeted", b"yes", Duration::from_secs(3600))?;
//! let calls = kv::increment("calls", 1)?;
//! // Events of other calls run at the same time: what is read and written back
//! // goes through `update_json`.
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

/// How often [`update_json`] tries. Each time that it fails, somebody else got
/// through.
const TRIES: u32 = 16;

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The settings do not grant it.
    NotGranted,
    /// The key is empty or too long, or the value too long; says what is allowed.
    TooLarge(String),
    /// The plugin has stored as much as it may; says how much that is.
    Quota(String),
    /// `increment` of a value that is no number, or beyond the range.
    NotANumber,
    /// The store cannot be reached now.
    Unavailable(String),
    /// `update_json` met a change by somebody else each time that it tried.
    Contended,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted => {
                f.write_str("kv: not granted; the plugin's settings need `[grants] kv = true`")
            }
            Self::TooLarge(why) => write!(f, "kv: too large: {why}"),
            Self::Quota(why) => write!(f, "kv: the store is full: {why}"),
            Self::NotANumber => f.write_str("kv: the value is no number that can be added to"),
            Self::Unavailable(why) => write!(f, "kv: the store cannot be reached: {why}"),
            Self::Contended => {
                write!(
                    f,
                    "kv: others changed the value each of the {TRIES} times that it was tried"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

/// The value of a key.
///
/// # Errors
///
/// When the store refuses.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    host::kv_get(key)
}

/// The value of a key that is text.
///
/// # Errors
///
/// When the store refuses, or the value is not UTF-8.
pub fn get_text(key: &str) -> error::Result<Option<String>> {
    let Some(value) = get(key)? else { return Ok(None) };
    // Neither the key nor the value: they may be a caller's number or words.
    String::from_utf8(value).map(Some).map_err(|_| AnyError::new("kv: the value is no text"))
}

/// The value of a key that is JSON, as a `T`.
///
/// # Errors
///
/// When the store refuses, or the value is something else.
pub fn get_json<T: DeserializeOwned>(key: &str) -> error::Result<Option<T>> {
    get(key)?.as_deref().map(parse).transpose()
}

/// Gives a key a value, for ever.
///
/// # Errors
///
/// When the store refuses.
pub fn set(key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
    host::kv_set(key, value.as_ref(), None)
}

/// Gives a key a value, for as long as `ttl`.
///
/// # Errors
///
/// When the store refuses.
pub fn set_for(key: &str, value: impl AsRef<[u8]>, ttl: Duration) -> Result<(), Error> {
    host::kv_set(key, value.as_ref(), Some(ttl))
}

/// Gives a key a value, written as JSON, for ever.
///
/// # Errors
///
/// When the store refuses, or the value cannot be written as JSON.
pub fn set_json<T: Serialize>(key: &str, value: &T) -> error::Result<()> {
    Ok(host::kv_set(key, &serde_json::to_vec(value)?, None)?)
}

/// Gives a key a value, written as JSON, for as long as `ttl`.
///
/// # Errors
///
/// When the store refuses, or the value cannot be written as JSON.
pub fn set_json_for<T: Serialize>(key: &str, value: &T, ttl: Duration) -> error::Result<()> {
    Ok(host::kv_set(key, &serde_json::to_vec(value)?, Some(ttl))?)
}

/// Takes a key away. Whether it was there.
///
/// # Errors
///
/// When the store refuses.
pub fn delete(key: &str) -> Result<bool, Error> {
    host::kv_delete(key)
}

/// Adds to a number, and returns the sum. A key that is not there counts as 0.
/// The value is the number as decimal text.
///
/// # Errors
///
/// When the store refuses, or the value is no number.
pub fn increment(key: &str, by: i64) -> Result<i64, Error> {
    host::kv_increment(key, by, None)
}

/// As [`increment`]; a key that was not there goes away again after `ttl`.
///
/// # Errors
///
/// When the store refuses, or the value is no number.
pub fn increment_for(key: &str, by: i64, ttl: Duration) -> Result<i64, Error> {
    host::kv_increment(key, by, Some(ttl))
}

/// Gives a key a value if it has the expected one (`None`: if it is not there),
/// for ever. Whether it did.
///
/// # Errors
///
/// When the store refuses.
pub fn compare_and_swap(
    key: &str,
    expected: Option<&[u8]>,
    value: impl AsRef<[u8]>,
) -> Result<bool, Error> {
    host::kv_compare_and_swap(key, expected, value.as_ref(), None)
}

/// As [`compare_and_swap`], for as long as `ttl`.
///
/// # Errors
///
/// When the store refuses.
pub fn compare_and_swap_for(
    key: &str,
    expected: Option<&[u8]>,
    value: impl AsRef<[u8]>,
    ttl: Duration,
) -> Result<bool, Error> {
    host::kv_compare_and_swap(key, expected, value.as_ref(), Some(ttl))
}

/// Makes a new JSON value of a key's old one, and returns it. Nothing that
/// others write at the same time is lost: `change` is called again when they did,
/// so it should do nothing else.
///
/// # Errors
///
/// When the store refuses, the old value is no `T`, or others are faster every
/// time ([`Error::Contended`]).
pub fn update_json<T: Serialize + DeserializeOwned>(
    key: &str,
    change: impl FnMut(Option<T>) -> T,
) -> error::Result<T> {
    update(key, None, change)
}

/// As [`update_json`]; the new value goes away after `ttl`.
///
/// # Errors
///
/// As [`update_json`].
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
    // Neither the key nor serde's message, which quotes the value.
    serde_json::from_slice(value).map_err(|_| {
        AnyError::new(format_args!("kv: the value is no {}", std::any::type_name::<T>()))
    })
}
