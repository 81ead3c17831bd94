//! Runs a script of host calls, and rejects the call with the results as the reason, one
//! line for each operation. The script is the call's metadata `script`, or else the
//! setting `script`. It has one operation on each line:
//!
//! `kv.get K`, `kv.set K V [TTL_MS]`, `kv.delete K`, `kv.increment K BY [TTL_MS]`,
//! `kv.cas K EXPECTED V` (`-`: no value), `kv.fill K BYTES`, `kv.longkey BYTES`,
//! `http.METHOD URL [BODY]`, `metrics.count NAME LABEL=VALUE BY`,
//! `metrics.observe NAME LABEL=VALUE VALUE` (`-`: no label; `\n` in a label's value
//! is a line feed), `sleep MS`. Requests have a header `X-Guest: reaches`.
//!
//! Results: `ok`, `ok VALUE`, `none`, `true`, `false`, `ok STATUS BODY`, or
//! `error KIND` with the kind's name in the contract.
use std::fmt::Display;
use std::str::FromStr;

use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        let script = match call.metadata("script")? {
            Some(script) => script,
            None => config::require("script")?,
        };
        let results: Result<Vec<String>> = script.lines().map(run).collect();
        Ok(reject(results?.join("\n")))
    }
}

/// Runs one operation and returns its result. Returns an error if the script is invalid.
fn run(line: &str) -> Result<String> {
    let (operation, words) = line.split_once(' ').unwrap_or((line, ""));
    let (family, verb) = operation.split_once('.').unwrap_or((operation, ""));
    match family {
        "kv" => kv_operation(verb, &words.split(' ').collect::<Vec<_>>()),
        "http" => Ok(http_operation(verb, words)),
        "metrics" => metrics_operation(verb, &words.split(' ').collect::<Vec<_>>()),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(number(words)?));
            Ok("ok".to_owned())
        }
        _ => Err(unknown(line)),
    }
}

fn kv_operation(verb: &str, words: &[&str]) -> Result<String> {
    let done = |()| "ok".to_owned();
    let boolean = |value: bool| value.to_string();
    let sum = |sum: i64| format!("ok {sum}");
    let result = match (verb, words) {
        ("get", [key]) => kv::get(key).map(|value| match value {
            Some(value) => format!("ok {}", String::from_utf8_lossy(&value)),
            None => "none".to_owned(),
        }),
        ("set", [key, value]) => kv::set(key, value).map(done),
        ("set", [key, value, ttl]) => kv::set_for(key, value, milliseconds(ttl)?).map(done),
        ("delete", [key]) => kv::delete(key).map(boolean),
        ("increment", [key, by]) => kv::increment(key, number(by)?).map(sum),
        ("increment", [key, by, ttl]) => {
            kv::increment_for(key, number(by)?, milliseconds(ttl)?).map(sum)
        }
        ("cas", [key, expected, value]) => {
            let expected = Some(expected.as_bytes()).filter(|expected| *expected != b"-");
            kv::compare_and_swap(key, expected, value).map(boolean)
        }
        ("fill", [key, bytes]) => kv::set(key, vec![b'x'; number(bytes)?]).map(done),
        ("longkey", [bytes]) => kv::set(&"k".repeat(number(bytes)?), "x").map(done),
        _ => return Err(unknown(verb)),
    };
    Ok(result.unwrap_or_else(|error| {
        let kind = match error {
            kv::Error::NotGranted => "not-granted",
            kv::Error::TooLarge(_) => "too-large",
            kv::Error::Quota(_) => "quota",
            kv::Error::NotANumber => "not-a-number",
            kv::Error::Unavailable(_) => "unavailable",
            kv::Error::Contended => "contended",
        };
        format!("error {kind}")
    }))
}

fn http_operation(method: &str, words: &str) -> String {
    let (url, body) = words.split_once(' ').unwrap_or((words, ""));
    match http::request(method, url).header("X-Guest", "reaches").body(body).send() {
        Ok(response) => {
            format!("ok {} {}", response.status(), String::from_utf8_lossy(response.body()))
        }
        Err(error) => {
            let kind = match error {
                http::Error::NotGranted(_) => "not-granted",
                http::Error::AddressRefused(_) => "address-refused",
                http::Error::InvalidRequest(_) => "invalid-request",
                http::Error::TooLarge(_) => "too-large",
                http::Error::Timeout => "timeout",
                http::Error::TooMany => "too-many",
                http::Error::Failed(_) => "failed",
            };
            format!("error {kind}")
        }
    }
}

fn metrics_operation(verb: &str, words: &[&str]) -> Result<String> {
    let [name, label, figure] = words else { return Err(unknown(verb)) };
    let label = label.replace("\\n", "\n");
    let labels: Vec<(&str, &str)> = label.split_once('=').into_iter().collect();
    let result = match verb {
        "count" => metrics::count(name, &labels, number(figure)?),
        "observe" => metrics::observe(name, &labels, number(figure)?),
        _ => return Err(unknown(verb)),
    };
    Ok(match result {
        Ok(()) => "ok",
        Err(metrics::Error::NotGranted) => "error not-granted",
        Err(metrics::Error::Invalid(_)) => "error invalid",
        Err(metrics::Error::TooMany) => "error too-many",
    }
    .to_owned())
}

fn milliseconds(word: &str) -> Result<Duration> {
    number(word).map(Duration::from_millis)
}

fn number<T: FromStr<Err: Display>>(word: &str) -> Result<T> {
    word.parse().map_err(|error| Error::new(format_args!("script: `{word}`: {error}")))
}

fn unknown(operation: &str) -> Error {
    Error::new(format_args!("script: unknown operation `{operation}`"))
}

plugboard_sdk::export!(Guest: Router);
