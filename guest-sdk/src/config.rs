//! The plugin's own settings: the `[config]` table of `NAME.toml` beside
//! `NAME.wasm`.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::host;

/// The value of a key: a string as it is, a number or boolean as text, an array
/// or table as JSON. None when the settings do not have it.
pub fn get(key: &str) -> Option<String> {
    host::config_get(key)
}

/// The value of a key that the plugin cannot do without.
///
/// # Errors
///
/// When the settings do not have it.
pub fn require(key: &str) -> Result<String> {
    get(key).ok_or_else(|| Error::new(format_args!("[config] has no `{key}`")))
}

/// The value of a key, read as a `T`: `config::parse::<u32>("limit")?`.
///
/// # Errors
///
/// When it is there and is no `T`.
pub fn parse<T: FromStr<Err: Display>>(key: &str) -> Result<Option<T>> {
    let Some(text) = get(key) else { return Ok(None) };
    let value = text.parse();
    value.map(Some).map_err(|error| Error::new(format_args!("[config] `{key}`: {error}")))
}

/// The value of a key that is an array or table.
///
/// # Errors
///
/// When it is there and does not fit `T`.
pub fn table<T: DeserializeOwned>(key: &str) -> Result<Option<T>> {
    let Some(json) = get(key) else { return Ok(None) };
    let value = serde_json::from_str(&json);
    value.map(Some).map_err(|error| Error::new(format_args!("[config] `{key}`: {error}")))
}
