//! The page of errors, by the labels that metrics, logs and answers have for them.

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
         ## Of plugins\n\n\
         The label stands in `plugboard_plugin_failures_total` (stage `call`), and with the whole \
         message in the log\nand in `/plugins`. What failed before `call` is a version that was not \
         loaded: the last good one serves on.\n\n"
    );
    text += &table_header(&["label", "stage", "what it says", "what to do"]);
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

    text += "\n## Of what a plugin wanted\n\nThe plugin gets the error and may go on. The label \
             stands in `plugboard_plugin_refusals_total`.\n\n";
    text += &table_header(&["capability", "label", "what it means"]);
    for (capability, label, meaning) in capability_errors() {
        text += &table_row(&[capability, &format!("`{label}`"), meaning]);
    }

    text += "\n## Of HTTP\n\nAs the answer: `{\"error\":{\"code\":\"…\",\"message\":\"…\"}}`. With \
             503 and 429 comes `Retry-After`.\nWhat BlackBox's agents get when a tool fails is told \
             under [tools](../guide/tools-and-events.md#what-an-agent-gets).\n\n";
    text += &table_header(&["status", "code", "what it says", "what to do"]);
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

/// That every word of a source file that is one of these kinds of words is listed: a
/// new one is not forgotten. They are the only quoted ones without a space.
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

/// One of each kind, in the order of loading.
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
        LoadError::SettingsNotText {
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

/// One of each kind.
fn call_errors() -> Vec<CallError> {
    let text = String::from;
    vec![
        CallError::NotExported(Hook::Router),
        CallError::Trap { source: EngineError::from_text("…"), said: Some(text("…")) },
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
            "Look at owner and mode of the file. It is tried again by itself."
        }
        LoadError::NotAFile(_) => "Put the component itself there, or a link to it.",
        LoadError::FileChanging(_) => {
            "Write to another name and rename. It is tried again by itself."
        }
        LoadError::SettingsNotText { .. } => "Save the settings as UTF-8.",
        LoadError::InvalidFileName(_) => "Rename the file.",
        LoadError::InvalidSettings(_) => {
            "Mend the line that it names. [All keys](plugin-settings.md)."
        }
        LoadError::MemoryTooLarge { .. } => {
            "Ask for less in `limits.memory`, or raise `engine.max_memory`."
        }
        LoadError::EmptyFile | LoadError::Malformed(_) => {
            "Copy it again: to another name, then rename. If that does not help, build it again."
        }
        LoadError::FileTooLarge { .. } => {
            "Build for release, with `strip = true` and `opt-level = \"s\"`."
        }
        LoadError::NotWasm { .. } => "Deploy the `.wasm` that the build made.",
        LoadError::CoreModule => "Build for `wasm32-wasip2`.",
        LoadError::HostPanicked => "Report it, with the file if you can.",
        LoadError::NoThread(_) => {
            "Raise the limit of threads (`ulimit -u`, `TasksMax`). It is tried again by itself."
        }
        LoadError::Precompiled => "Deploy the `.wasm`.",
        LoadError::ExceedsEngineLimits(_) => {
            "It names what it needs too much of: memory, tables, instances. Make it need less."
        }
        LoadError::NoHook { .. } => {
            "Say `export!(MyPlugin: Router)`, and `crate-type = [\"cdylib\", \"rlib\"]`."
        }
        LoadError::ContractVersion { .. } | LoadError::ContractMismatch { .. } => {
            "Build it against the SDK, or the `wit/`, of this Plugboard."
        }
        LoadError::UnknownImport { .. } => {
            "Do without it. A library wants more of its host than Plugboard lends."
        }
        LoadError::GrantSetup(_) => "Mend `[grants]` as it says.",
        LoadError::InvalidToolNames(_) => {
            "Mend the names in `tools()`, or in the settings' `[tools]`: 64 at the most, each once."
        }
        LoadError::Instantiate(_) => {
            "It says in what way the first instance failed: look there in this table."
        }
    }
}

fn call_remedy(error: &CallError) -> &'static str {
    match error {
        CallError::NotExported(_) => {
            "None: another version of the plugin was meant. If it stays, report it."
        }
        CallError::Trap { .. } => {
            "A panic, or a bug. The message has the function, and what the plugin said last."
        }
        CallError::MemoryLimitExceeded { .. } => {
            "Raise `limits.memory`, or make the plugin keep less."
        }
        CallError::Timeout(_) => {
            "Raise the limit, or look at what it waits for. What is slow elsewhere, let it cache."
        }
        CallError::Busy => {
            "Raise `engine.instances` if memory allows; look which plugin takes so long."
        }
        CallError::CircuitOpen => {
            "Look at the failures before it. A new version, or other settings, are tried at once."
        }
        CallError::HostCallDataExceeded { .. } | CallError::TooLong { .. } => "Make it say less.",
        CallError::GuestError(_) => "The plugin's own words: ask its author.",
        CallError::NotJson { .. } => "Return JSON, nested no deeper than 64.",
        CallError::InvalidStsUrl(_) => {
            "Mend the URL; only path and query may have `{…}`. See `allowed_sts_hosts`, too."
        }
        CallError::HostPanicked => "Report it, with the lines of the log before it.",
    }
}

/// What a plugin can be refused, and in which words.
fn capability_errors() -> Vec<(&'static str, &'static str, &'static str)> {
    let text = String::new;
    let kv = [
        (GuestKvError::NotGranted, "`grants.kv` is not set."),
        (
            GuestKvError::TooLarge(text()),
            "A key or value is longer than `[kv]` allows, or a key is empty.",
        ),
        (GuestKvError::Quota(text()), "The plugin has as many bytes as it may (`kv.max_total`)."),
        (GuestKvError::NotANumber, "`increment` of a value that is no number."),
        (
            GuestKvError::Unavailable(text()),
            "The store cannot be used now: see `plugboard_store_up`.",
        ),
    ];
    let http = [
        (Request::NotGranted(text()), "No entry of `grants.http` has this host and port."),
        (
            Request::AddressRefused(text()),
            "A name leads into a private network; an entry must name that network, too.",
        ),
        (Request::InvalidRequest(text()), "Method, URL or a header cannot be sent."),
        (Request::TooLarge(text()), "Request or response is larger than `[http]` allows."),
        (Request::Timeout, "No whole response in the time that was left."),
        (Request::TooManyRequests, "More requests at the same time than `http.concurrency`."),
        (Request::Failed(text()), "The other side could not be reached, or broke off."),
    ];
    let metrics = [
        (MetricsError::NotGranted, "`grants.metrics` is not set."),
        (MetricsError::Invalid(text()), "The name or a label is no good, or too long."),
        (MetricsError::TooMany, "The plugin has as many series as it may."),
    ];
    let kv = kv.map(|(error, meaning)| ("kv", error.label(), meaning));
    let http = http.map(|(error, meaning)| ("http", error.label(), meaning));
    let metrics = metrics.map(|(error, meaning)| ("metrics", error.label(), meaning));
    kv.into_iter().chain(http).chain(metrics).collect()
}

fn http_remedy(code: &str) -> &'static str {
    match code {
        "not_found" => "Look at the path. A platform's path is there only if the platform is on.",
        "method_not_allowed" => "Use the method that the path takes.",
        "body_too_large" => "Raise the key that it names, if such bodies are to be taken.",
        "body_timeout" => "Send again. If it stays: the network, or the key that it names.",
        "overloaded" => "Send again after `Retry-After`.",
        "internal" => "Report it, with the lines of the log before it.",
        "bad_request" => "Send what the platform sends: the message names the field.",
        "sender_not_allowed" => "Add the address to `senders.allow`, if it may send.",
        "cross_site" => "Ask from the page itself, or with a program that is no browser.",
        "host_not_allowed" => {
            "Ask for the address, or for `localhost`; or set an `admin_token`, and any name will do."
        }
        "too_many_readers" => "Close a page that is open elsewhere.",
        "too_many_requests" => "Send less, or raise `senders.rate` and `senders.burst`.",
        "https_expected" => "Use `https://`.",
        "store_unavailable" => {
            "Look at the disk and at the log; events are taken again by themselves."
        }
        "store_full" => "Make room on the disk, or mend the observer that is furthest behind.",
        "stopping" => "Send again to the process that takes over.",
        "still_told" => "Ask once more.",
        "no_instructions" => "None: no plugin gave this call a prompt, or the call is forgotten.",
        "unauthorized" => "Show the secret, header or signature that is configured.",
        "folder_unreadable" => "Look at owner and mode of the plugin folder.",
        other => panic!("{other} is not described"),
    }
}
