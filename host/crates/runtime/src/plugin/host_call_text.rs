//! Short texts of host calls and their results, for the recorder.

use std::fmt::Display;
use std::time::Duration;

use super::bindings::plugboard::plugin::http;
use super::recorder::{HostCall, HostCallError};
use crate::capability::kv::GuestKvError;
use crate::capability::metrics::MetricsError;
use plugboard_core::units::format_duration;
use plugboard_egress::{HttpError, HttpResponse};
use plugboard_store::{KvAnswer, KvCommand};

/// Creates the record of a host call without its result.
fn new_host_call(function: &'static str, subject: String, detail: Option<String>) -> HostCall {
    HostCall { function, subject, detail, result: None, error: None, took: None }
}

pub(super) fn config_call(key: &str) -> HostCall {
    new_host_call("config.get", key.to_owned(), None)
}

/// Describes a setting or a value by its length only, because the text may be a secret.
pub(super) fn optional_size(bytes: Option<usize>) -> String {
    bytes.map_or_else(|| "none".to_owned(), byte_count)
}

fn byte_count(bytes: usize) -> String {
    if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") }
}

pub(super) fn kv_call(key: &str, command: &KvCommand) -> HostCall {
    let (function, detail) = match command {
        KvCommand::Get => ("kv.get", None),
        KvCommand::Set { value, ttl } => {
            ("kv.set", Some(format!("{}{}", byte_count(value.len()), ttl_suffix(*ttl))))
        }
        KvCommand::Delete => ("kv.delete", None),
        KvCommand::Increment { by, ttl } => {
            ("kv.increment", Some(format!("by {by}{}", ttl_suffix(*ttl))))
        }
        KvCommand::Swap { expected, value, ttl } => {
            let expected = optional_size(expected.as_ref().map(Vec::len));
            let detail = format!("{expected} to {}{}", byte_count(value.len()), ttl_suffix(*ttl));
            ("kv.compare-and-swap", Some(detail))
        }
    };
    new_host_call(function, key.to_owned(), detail)
}

fn ttl_suffix(ttl: Option<Duration>) -> String {
    ttl.map(|ttl| format!(", for {}", format_duration(ttl))).unwrap_or_default()
}

pub(super) fn kv_result(answer: &Result<KvAnswer, GuestKvError>) -> Result<String, HostCallError> {
    match answer {
        Ok(KvAnswer::Value(value)) => Ok(optional_size(value.as_ref().map(Vec::len))),
        Ok(KvAnswer::Done) => Ok("done".to_owned()),
        Ok(KvAnswer::Flag(yes)) => Ok(if *yes { "yes" } else { "no" }.to_owned()),
        Ok(KvAnswer::Number(sum)) => Ok(sum.to_string()),
        Err(error) => error_result(error.label(), error),
    }
}

pub(super) fn http_call(request: &http::Request) -> HostCall {
    let http::Request { method, url, body, .. } = request;
    let detail = (!body.is_empty()).then(|| byte_count(body.len()));
    new_host_call("http.send", format!("{method} {url}"), detail)
}

pub(super) fn http_result(
    response: &Result<HttpResponse, HttpError>,
) -> Result<String, HostCallError> {
    match response {
        Ok(HttpResponse { status, body, .. }) => {
            Ok(format!("{status}, {}", byte_count(body.len())))
        }
        Err(error) => error_result(error.label(), error),
    }
}

pub(super) fn metrics_call(
    function: &'static str,
    name: &str,
    labels: &[(String, String)],
    value: &dyn Display,
) -> HostCall {
    let labels: Vec<String> = labels.iter().map(|(name, text)| format!("{name}={text}")).collect();
    let labels =
        if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    new_host_call(function, format!("{name}{labels}"), Some(value.to_string()))
}

pub(super) fn metrics_result(result: &Result<(), MetricsError>) -> Result<String, HostCallError> {
    match result {
        Ok(()) => Ok("done".to_owned()),
        Err(error) => error_result(error.label(), error),
    }
}

fn error_result<T>(label: &'static str, error: &dyn Display) -> Result<T, HostCallError> {
    Err(HostCallError { label, message: error.to_string() })
}
