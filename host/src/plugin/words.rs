//! Calls of the host in words, for whoever records them.

use std::fmt::Display;
use std::time::Duration;

use super::bindings::plugboard::plugin::http;
use super::record::{HostCall, Refusal};
use crate::capability::http::{HttpError, Response};
use crate::capability::kv::KvError;
use crate::capability::metrics::MetricsError;
use crate::store::{KvAnswer, KvCommand};
use crate::units::duration_text;

/// A function that is called, with what it is called for.
fn call(function: &'static str, subject: String, detail: Option<String>) -> HostCall {
    HostCall { function, subject, detail, result: None, error: None, took: None }
}

pub(super) fn setting(key: &str) -> HostCall {
    call("config.get", key.to_owned(), None)
}

/// What a setting or a value is: its length, as the text may be a secret.
pub(super) fn length(bytes: Option<usize>) -> String {
    bytes.map_or_else(|| "none".to_owned(), size)
}

fn size(bytes: usize) -> String {
    if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") }
}

pub(super) fn kv(key: &str, command: &KvCommand) -> HostCall {
    let (function, detail) = match command {
        KvCommand::Get => ("kv.get", None),
        KvCommand::Set { value, ttl } => {
            ("kv.set", Some(format!("{}{}", size(value.len()), span(*ttl))))
        }
        KvCommand::Delete => ("kv.delete", None),
        KvCommand::Increment { by, ttl } => {
            ("kv.increment", Some(format!("by {by}{}", span(*ttl))))
        }
        KvCommand::Swap { expected, value, ttl } => {
            let expected = length(expected.as_ref().map(Vec::len));
            let detail = format!("{expected} to {}{}", size(value.len()), span(*ttl));
            ("kv.compare-and-swap", Some(detail))
        }
    };
    call(function, key.to_owned(), detail)
}

fn span(ttl: Option<Duration>) -> String {
    ttl.map(|ttl| format!(", for {}", duration_text(ttl))).unwrap_or_default()
}

pub(super) fn kv_answer(answer: &Result<KvAnswer, KvError>) -> Result<String, Refusal> {
    match answer {
        Ok(KvAnswer::Value(value)) => Ok(length(value.as_ref().map(Vec::len))),
        Ok(KvAnswer::Done) => Ok("done".to_owned()),
        Ok(KvAnswer::Flag(yes)) => Ok(if *yes { "yes" } else { "no" }.to_owned()),
        Ok(KvAnswer::Number(sum)) => Ok(sum.to_string()),
        Err(error) => refusal(error.label(), error),
    }
}

pub(super) fn request(request: &http::Request) -> HostCall {
    let http::Request { method, url, body, .. } = request;
    let detail = (!body.is_empty()).then(|| size(body.len()));
    call("http.send", format!("{method} {url}"), detail)
}

pub(super) fn response(response: &Result<Response, HttpError>) -> Result<String, Refusal> {
    match response {
        Ok(Response { status, body, .. }) => Ok(format!("{status}, {}", size(body.len()))),
        Err(error) => refusal(error.label(), error),
    }
}

pub(super) fn figure(
    function: &'static str,
    name: &str,
    labels: &[(String, String)],
    value: &dyn Display,
) -> HostCall {
    let labels: Vec<String> = labels.iter().map(|(name, text)| format!("{name}={text}")).collect();
    let labels =
        if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    call(function, format!("{name}{labels}"), Some(value.to_string()))
}

pub(super) fn counted(result: &Result<(), MetricsError>) -> Result<String, Refusal> {
    match result {
        Ok(()) => Ok("done".to_owned()),
        Err(error) => refusal(error.label(), error),
    }
}

fn refusal<T>(label: &'static str, error: &dyn Display) -> Result<T, Refusal> {
    Err(Refusal { label, message: error.to_string() })
}
