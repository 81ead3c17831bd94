//! The plugin's own settings: the `[config]` table of `NAME.toml` beside
//! `NAME.wasm`.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::host;

/// Returns the value of a key, or none if the settings lack the key. A string is
/// returned as it is, a number or boolean as text, an array or table as JSON.
pub fn get(key: &str) -> Option<String> {
    host::config_get(key)
}

/// Returns the value of a required key.
///
/// # Errors
///
/// If the settings lack the key.
pub fn require(key: &str) -> Result<String> {
    get(key).ok_or_else(|| Error::new(format_args!("[config] has no `{key}`")))
}

/// Returns the value of a key, parsed as a `T`: `config::parse::<u32>("limit")?`. None
/// if the settings lack the key.
///
/// # Errors
///
/// If the value cannot be parsed as a `T`.
pub fn parse<T: FromStr<Err: Display>>(key: &str) -> Result<Option<T>> {
    let Some(text) = get(key) else { return Ok(None) };
    let value = text.parse();
    value.map(Some).map_err(|error| Error::new(format_args!("[config] `{key}`: {error}")))
}

/// Returns the value of a key that is an array or table, deserialized as a `T`. None if
/// the settings lack the key.
///
/// # Errors
///
/// If the value cannot be deserialized as a `T`.
pub fn table<T: DeserializeOwned>(key: &str) -> Result<Option<T>> {
    let Some(json) = get(key) else { return Ok(None) };
    let value = serde_json::from_str(&json);
    value.map(Some).map_err(|error| Error::new(format_args!("[config] `{key}`: {error}")))
}
