//! Plugin with configurable tools. Their names are the setting `names` (separated by
//! commas, by default `echo`), or `tool-0`, `tool-1` and so on if `names_count` is set.
//! Each name is padded with `x` to `names_length` bytes. `names_do`: `trap`, `spin` or
//! `sleep` when the host asks for the names, which also precedes each tool call.
//!
//! The setting `do` is the behaviour of a tool call: `echo` (returns the call and the
//! arguments), `slow` (the same after `delay_ms`), `cached` (the same with a random
//! `nonce`, cacheable for `ttl_ms` with the vary set `vary`, separated by commas),
//! `error`, `long_error` (a message of `bytes` bytes and a code of `code_bytes`), `deep`
//! (a result of `depth` nested arrays), `huge` (a string of `bytes` bytes), `trap`,
//! `panic`, `spin`, `sleep`, or `allocate` (in an endless loop).
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::SystemTime;

use plugboard_sdk::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

struct Guest;

impl Tools for Guest {
    fn tools() -> ToolBox {
        match config::get("names_do").as_deref() {
            Some("trap") => std::process::abort(),
            Some("spin") => spin(),
            Some("sleep") => std::thread::sleep(Duration::from_secs(60)),
            _ => {}
        }
        let (ttl, vary) = (setting("ttl_ms"), list("vary").unwrap_or_default());
        let cached = task() == "cached";
        names().into_iter().fold(ToolBox::new(), |tools, name| {
            let own_name = name.clone();
            let tool = move |call: &Call, arguments: Value| run(&own_name, call, arguments);
            if cached {
                tools.with_cached(name, tool, Duration::from_millis(ttl), vary.clone())
            } else {
                tools.with(name, tool)
            }
        })
    }
}

fn names() -> Vec<String> {
    let numbered = || (0..setting("names_count")).map(|nth| format!("tool-{nth}")).collect();
    let mut names = match config::get("names_count") {
        Some(_) => numbered(),
        None => list("names").unwrap_or_else(|| vec!["echo".to_owned()]),
    };
    let length = setting("names_length") as usize;
    for name in &mut names {
        name.push_str(&"x".repeat(length.saturating_sub(name.len())));
    }
    names
}

fn run(name: &str, call: &Call, arguments: Value) -> Result<Box<RawValue>, ToolError> {
    let echo = || echo(name, call, &arguments);
    let result = match &*task() {
        "echo" => echo(),
        "slow" => {
            std::thread::sleep(Duration::from_millis(setting("delay_ms")));
            echo()
        }
        "cached" => {
            let mut result = echo();
            result["nonce"] = RandomState::new().hash_one(SystemTime::now()).into();
            result
        }
        "error" => {
            return Err(ToolError::new("there is no such day").with_code("NO_SUCH_DAY"));
        }
        "long_error" => {
            let text = |key| "x".repeat(setting(key) as usize);
            return Err(ToolError::new(text("bytes")).with_code(text("code_bytes")));
        }
        "deep" => {
            let depth = setting("depth") as usize;
            // As text: a value of this depth would overflow the stack when it is serialized.
            let json = "[".repeat(depth) + &"]".repeat(depth);
            return Ok(RawValue::from_string(json)?);
        }
        "huge" => "x".repeat(setting("bytes") as usize).into(),
        "trap" => std::process::abort(),
        "panic" => panic!("the tool {name} is broken"),
        "spin" => spin(),
        "sleep" => {
            std::thread::sleep(Duration::from_secs(60));
            echo()
        }
        "allocate" => {
            let mut blocks: Vec<Vec<u8>> = Vec::new();
            loop {
                blocks.push(vec![name.len() as u8; 1 << 20]);
            }
        }
        other => return Err(ToolError::new(format_args!("cannot do `{other}`"))),
    };
    Ok(serde_json::value::to_raw_value(&result)?)
}

fn echo(name: &str, call: &Call, arguments: &Value) -> Value {
    let metadata: Map<String, Value> = call
        .metadata_names()
        .map(|name| (name.to_owned(), parse_json(call.metadata_json(name).unwrap_or_default())))
        .collect();
    let mut reply = json!({
        "tool": name,
        "call": call.id(),
        "platform": call.platform(),
        "from": call.from(),
        "to": call.to(),
        "agent": call.agent(),
        "metadata": metadata,
        "arguments": arguments,
    });
    if let Ok(nth) = kv::increment("nth", 1) {
        reply["nth"] = nth.into();
    }
    reply
}

fn spin() -> ! {
    loop {
        std::hint::black_box(0);
    }
}

fn task() -> String {
    config::get("do").unwrap_or_else(|| "echo".to_owned())
}

/// Returns a setting as a number, or 0 if it is absent or invalid.
fn setting(key: &str) -> u64 {
    config::parse(key).ok().flatten().unwrap_or_default()
}

/// Returns a setting as a list, separated by commas.
fn list(key: &str) -> Option<Vec<String>> {
    let words = |text: String| text.split(',').map(|word| word.trim().to_owned()).collect();
    config::get(key).map(words)
}

/// Parses JSON of the host. Returns invalid JSON as a string.
fn parse_json(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| json.into())
}

plugboard_sdk::export!(Guest: Tools);
