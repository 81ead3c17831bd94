//! Page of errors, by the labels of metrics, log and error responses.

use std::path::PathBuf;
use std::time::Duration;

use expect_test::expect_file;

use super::{GENERATED_NOTICE, assert_page, table_header, table_row};
use plugboard_config::toml_error::TomlError;
use plugboard_core::sts_url::StsUrlError;
use plugboard_egress::HttpError as Request;
use plugboard_runtime::capability::kv::GuestKvError;
use plugboard_runtime::capability::metrics::MetricsError;
use plugboard_runtime::plugin::Hook;
use plugboard_runtime::plugin::error::{CallError, EngineError, LoadError, Stage};
use plugboard_server::all_error_responses;

#[test]
fn errors_page_is_current() {
    let mut text = format!(
        "{GENERATED_NOTICE}\n\n# Errors\n\n\
         ## Errors of plugins\n\n\
         Errors of the stage `call` count in `plugboard_plugin_failures_total` under their label. \
         The log and `/plugins` have\nthe label and the whole message. At an earlier stage, a \
         version could not be loaded: the last good version serves.\n\n"
    );
    text += &table_header(&["label", "stage", "message", "remedy"]);
    let (load_errors, call_errors) = (load_errors(), call_errors());
    assert_all(
        load_errors.iter().map(LoadError::label),
        include_str!("../../crates/runtime/src/plugin/error/load.rs"),
    );
    assert_all(
        call_errors.iter().map(CallError::label),
        include_str!("../../crates/runtime/src/plugin/error/call.rs"),
    );
    for error in &load_errors {
        let label = format!("`{}`", error.label());
        text += &table_row(&[&label, error.stage().name(), &error.to_string(), load_remedy(error)]);
    }
    for error in &call_errors {
        let label = format!("`{}`", error.label());
        let stage = Stage::Call.name();
        text += &table_row(&[&label, stage, &error.to_string(), call_remedy(error)]);
    }

    text += "\n## Errors of host calls\n\nThe plugin gets the error and can continue. It counts in \
             `plugboard_plugin_host_call_errors_total`.\n\n";
    text += &table_header(&["capability", "label", "meaning"]);
    for (capability, label, meaning) in capability_errors() {
        text += &table_row(&[capability, &format!("`{label}`"), meaning]);
    }

    text += "\n## Errors of HTTP requests\n\nThe response is \
             `{\"error\":{\"code\":\"…\",\"message\":\"…\"}}`. Those of webhooks with 503 or 429 have \
             `Retry-After`.\nFor the answers to BlackBox when a tool fails, see \
             [tools](../guide/tools-and-events.md#what-does-an-agent-get).\n\n";
    text += &table_header(&["status", "code", "message", "remedy"]);
    let answers = all_error_responses();
    let (codes, _) =
        include_str!("../../crates/server/src/error.rs").split_once("impl IntoResponse").unwrap();
    assert_all(answers.iter().map(|(_, code, _)| *code), codes);
    for (status, code, message) in &answers {
        text +=
            &table_row(&[&status.to_string(), &format!("`{code}`"), message, http_remedy(code)]);
    }
    assert_page(&expect_file!["../../../docs/reference/errors.md"], &text);
}

/// Asserts that every label in a source file is described, so that a new one is not
/// forgotten. Labels are the only string literals without a space.
fn assert_all<'a>(described: impl Iterator<Item = &'a str>, source: &str) {
    let known: Vec<&str> = described.collect();
    let is_word = |word: &&str| {
        word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for word in line.split('"').skip(1).step_by(2).filter(is_word) {
            assert!(known.contains(&word), "{word:?} is not described");
        }
    }
}

/// Returns one error of each kind, in the order of the load stages.
fn load_errors() -> Vec<LoadError> {
    let file = || PathBuf::from("plugins/10-vip.wasm");
    let text = String::from;
    let engine = || EngineError::from_text("…");
    let missing = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    vec![
        LoadError::Unreadable { path: file(), source: missing() },
        LoadError::NotAFile(file()),
        LoadError::FileChanging(file()),
        LoadError::InvalidFileName(PathBuf::from("vip…")),
        LoadError::EmptyFile,
        LoadError::FileTooLarge { size: 80_000_000, most: 67_108_864 },
        LoadError::SettingsNotUtf8 {
            path: PathBuf::from("plugins/10-vip.toml"),
            source: String::from_utf8(vec![0xff]).unwrap_err().utf8_error(),
        },
        LoadError::InvalidSettings(TomlError {
            file: text("plugins/10-vip.toml"),
            line: Some(3),
            message: text("unknown field `timeuot`, expected …"),
            meant: Some(text("timeout")),
        }),
        LoadError::MemoryTooLarge { asked: 1 << 30, most: 256 << 20 },
        LoadError::NotWasm { start: text("#!/bin/sh") },
        LoadError::CoreModule,
        LoadError::HostPanicked,
        LoadError::NoThread(std::io::ErrorKind::WouldBlock.into()),
        LoadError::Precompiled,
        LoadError::ExceedsEngineLimits(engine()),
        LoadError::Malformed(engine()),
        LoadError::NoHook { expected: text("…"), found: text("nothing") },
        LoadError::ContractVersion { found: text("…"), spoken: "…" },
        LoadError::UnknownImport { import: text("…"), known: text("…") },
        LoadError::ContractMismatch { spoken: "…", source: engine() },
        LoadError::GrantSetup("…".into()),
        LoadError::InvalidToolNames(text("…")),
        LoadError::Instantiate(CallError::Busy),
    ]
}

/// Returns one error of each kind.
fn call_errors() -> Vec<CallError> {
    let text = String::from;
    vec![
        CallError::NotExported(Hook::Router),
        CallError::Trap { source: EngineError::from_text("…"), last_message: Some(text("…")) },
        CallError::MemoryLimitExceeded { limit: 32 << 20 },
        CallError::Timeout(Duration::from_millis(250)),
        CallError::Busy,
        CallError::CircuitOpen,
        CallError::HostCallDataExceeded { limit: 1 << 20 },
        CallError::TooLong { what: "prompt", length: 70_000, limit: 65_536 },
        CallError::GuestError(text("…")),
        CallError::NotJson { what: "result", source: "…".into() },
        CallError::InvalidStsUrl(StsUrlError::NoHost),
        CallError::HostPanicked,
    ]
}

fn load_remedy(error: &LoadError) -> &'static str {
    match error {
        LoadError::Unreadable { .. } => {
            "Check owner and mode of the file. Plugboard retries on its own."
        }
        LoadError::NotAFile(_) => "Replace it with the component, or a link to it.",
        LoadError::FileChanging(_) => {
            "Copy to another name, then rename. Plugboard retries on its own."
        }
        LoadError::SettingsNotUtf8 { .. } => "Save the settings as UTF-8.",
        LoadError::InvalidFileName(_) => "Rename the file.",
        LoadError::InvalidSettings(_) => {
            "Correct the line that the message names. See [all keys](plugin-settings.md)."
        }
        LoadError::MemoryTooLarge { .. } => "Reduce `limits.memory`, or raise `engine.max_memory`.",
        LoadError::EmptyFile | LoadError::Malformed(_) => {
            "Copy it again, to another name, then rename. If it still fails, build it again."
        }
        LoadError::FileTooLarge { .. } => {
            "Build for release, with `strip = true` and `opt-level = \"s\"`."
        }
        LoadError::NotWasm { .. } => "Deploy the `.wasm` file from the build.",
        LoadError::CoreModule => "Build for `wasm32-wasip2`.",
        LoadError::HostPanicked => "Report the bug, with the file if possible.",
        LoadError::NoThread(_) => {
            "Raise the limit of threads (`ulimit -u`, `TasksMax`). Plugboard retries on its own."
        }
        LoadError::Precompiled => "Deploy the `.wasm`.",
        LoadError::ExceedsEngineLimits(_) => {
            "Reduce the resource that the message names: memory, tables or instances."
        }
        LoadError::NoHook { .. } => {
            "Add `export!(MyPlugin: Router)`, and `crate-type = [\"cdylib\", \"rlib\"]`."
        }
        LoadError::ContractVersion { .. } | LoadError::ContractMismatch { .. } => {
            "Build it with the SDK, or the `wit/` files, of this version of Plugboard."
        }
        LoadError::UnknownImport { .. } => {
            "Remove the import. Usually a library needs an interface that Plugboard does not have."
        }
        LoadError::GrantSetup(_) => "Correct `[grants]` as the message says.",
        LoadError::InvalidToolNames(_) => {
            "Correct the names in `tools()`, or in the settings' `[tools]`: at most 64, each once."
        }
        LoadError::Instantiate(_) => {
            "The message has the error of the first instance: see the stage `call` in this table."
        }
    }
}

fn call_remedy(error: &CallError) -> &'static str {
    match error {
        CallError::NotExported(_) => {
            "None: the call was for another version of the plugin. If it persists, report it."
        }
        CallError::Trap { .. } => {
            "Fix the panic or bug. The message has the function and the plugin's last message."
        }
        CallError::MemoryLimitExceeded { .. } => {
            "Raise `limits.memory`, or reduce the plugin's memory use."
        }
        CallError::Timeout(_) => {
            "Raise the limit, or find the slow operation. Cache the results of slow services."
        }
        CallError::Busy => {
            "Raise `engine.instances` if memory allows, and find the plugin that runs too long."
        }
        CallError::CircuitOpen => {
            "Fix the earlier failures. A new version or new settings close the breaker."
        }
        CallError::HostCallDataExceeded { .. } | CallError::TooLong { .. } => {
            "Reduce the size of the data."
        }
        CallError::GuestError(_) => "The error is the plugin's own: ask its author.",
        CallError::NotJson { .. } => "Return valid JSON, nested at most 64 levels deep.",
        CallError::InvalidStsUrl(_) => {
            "Correct the URL. Only path and query may contain `{…}`. Check `allowed_sts_hosts`."
        }
        CallError::HostPanicked => "Report the bug, with the preceding lines of the log.",
    }
}

/// Returns the errors of host calls: capability, label and meaning.
fn capability_errors() -> Vec<(&'static str, &'static str, &'static str)> {
    let text = String::new;
    let kv = [
        (GuestKvError::NotGranted, "`grants.kv` is not set."),
        (
            GuestKvError::TooLarge(text()),
            "A key or value is larger than `[kv]` allows, or the key is empty.",
        ),
        (GuestKvError::Quota(text()), "The plugin's values have reached `kv.max_total`."),
        (GuestKvError::NotANumber, "`increment` of a value that is not a number."),
        (GuestKvError::Unavailable(text()), "The store is unavailable: see `plugboard_store_up`."),
    ];
    let http = [
        (Request::NotGranted(text()), "No entry of `grants.http` includes this host and port."),
        (
            Request::AddressRefused(text()),
            "The name resolves to a private address, which `grants.http` must include as well.",
        ),
        (Request::InvalidRequest(text()), "The method, the URL or a header is invalid."),
        (Request::TooLarge(text()), "The request or response is larger than `[http]` allows."),
        (Request::Timeout, "The response did not arrive completely within the remaining time."),
        (Request::TooManyRequests, "The plugin exceeds `http.concurrency`."),
        (Request::Failed(text()), "The service is unreachable, or closed the connection."),
    ];
    let metrics = [
        (MetricsError::NotGranted, "`grants.metrics` is not set."),
        (MetricsError::Invalid(text()), "The name or a label is invalid or too long."),
        (MetricsError::TooMany, "The plugin has reached its maximum of series."),
    ];
    let kv = kv.map(|(error, meaning)| ("kv", error.label(), meaning));
    let http = http.map(|(error, meaning)| ("http", error.label(), meaning));
    let metrics = metrics.map(|(error, meaning)| ("metrics", error.label(), meaning));
    kv.into_iter().chain(http).chain(metrics).collect()
}

fn http_remedy(code: &str) -> &'static str {
    match code {
        "not_found" => "Check the path. A platform's path exists only if the platform is enabled.",
        "method_not_allowed" => "Use the method that the path supports.",
        "body_too_large" => "Raise the key that the message names, if such bodies are legitimate.",
        "body_timeout" => "Send it again. If it persists, check the network, or raise the key.",
        "overloaded" => "Send it again after `Retry-After`.",
        "internal" => "Report the bug, with the preceding lines of the log.",
        "bad_request" => "Correct the field that the message names.",
        "ip_not_allowed" => "Add the address to `ingress.allowed_networks`, if it may send.",
        "cross_site" => "Use the page itself, or a client that is not a browser.",
        "host_not_allowed" => {
            "Use the IP address or `localhost`, or set an `admin_token` to allow any name."
        }
        "too_many_subscribers" => "Close one of the open pages.",
        "too_many_requests" => {
            "Send fewer requests, or raise `ingress.rate_limit` and `ingress.rate_limit_burst`."
        }
        "https_expected" => "Use `https://`.",
        "store_unavailable" => "Check the disk and the log. The store recovers without a restart.",
        "store_full" => "Free disk space, or fix the observer with the largest lag.",
        "stopping" => "Send it again: another process takes over.",
        "erasure_incomplete" => "Repeat the request.",
        "prompt_not_found" => "None: no plugin gave the call a prompt, or its context has expired.",
        "unauthorized" => "Send the configured token, secret, header or signature.",
        "folder_unreadable" => "Check owner and mode of the plugin folder.",
        other => panic!("{other} is not described"),
    }
}
