//! The contract's imports as functions with the types of this crate.

use std::time::Duration;

use super::bindings::plugboard::plugin;
use super::convert::milliseconds;
use crate::log::Level;
use crate::{http, kv, metrics};

pub(crate) fn config_get(key: &str) -> Option<String> {
    plugin::config::get(key)
}

pub(crate) fn log_write(level: Level, message: &str) {
    plugin::log::write(level.into(), message);
}

pub(crate) fn kv_get(key: &str) -> Result<Option<Vec<u8>>, kv::Error> {
    Ok(plugin::kv::get(key)?)
}

pub(crate) fn kv_set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), kv::Error> {
    Ok(plugin::kv::set(key, value, ttl.map(milliseconds))?)
}

pub(crate) fn kv_delete(key: &str) -> Result<bool, kv::Error> {
    Ok(plugin::kv::delete(key)?)
}

pub(crate) fn kv_increment(key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, kv::Error> {
    Ok(plugin::kv::increment(key, by, ttl.map(milliseconds))?)
}

pub(crate) fn kv_compare_and_swap(
    key: &str,
    expected: Option<&[u8]>,
    value: &[u8],
    ttl: Option<Duration>,
) -> Result<bool, kv::Error> {
    Ok(plugin::kv::compare_and_swap(key, expected, value, ttl.map(milliseconds))?)
}

pub(crate) fn http_send(request: http::Request) -> Result<http::Response, http::Error> {
    Ok(plugin::http::send(&request.into())?.into())
}

pub(crate) fn metrics_count(
    name: &str,
    labels: &[(&str, &str)],
    by: u64,
) -> Result<(), metrics::Error> {
    Ok(plugin::metrics::count(name, &owned(labels), by)?)
}

pub(crate) fn metrics_observe(
    name: &str,
    labels: &[(&str, &str)],
    value: f64,
) -> Result<(), metrics::Error> {
    Ok(plugin::metrics::observe(name, &owned(labels), value)?)
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
