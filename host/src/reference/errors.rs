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
use plugboard_runtime::plugin::error::PluginError;
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
    let errors = plugin_errors();
    assert_all(
        errors.iter().map(PluginError::label),
        include_str!("../../crates/runtime/src/plugin/error.rs"),
        "fn stage(&self)",
    );
    for error in &errors {
        let label = format!("`{}`", error.label());
        text +=
            &table_row(&[&label, error.stage().name(), &error.to_string(), plugin_remedy(error)]);
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
    assert_all(
        answers.iter().map(|(_, code, _)| *code),
        include_str!("../../crates/server/src/error.rs"),
        "impl IntoResponse",
    );
    for (status, code, message) in &answers {
        text +=
            &table_row(&[&status.to_string(), &format!("`{code}`"), message, http_remedy(code)]);
    }
    assert_page(&expect_file!["../../../docs/reference/errors.md"], &text);
}

/// That every word of a source file that is one of these kinds of words is listed: a
/// new one is not forgotten. They are the only quoted ones without a space.
fn assert_all<'a>(described: impl Iterator<Item = &'a str>, source: &str, end_marker: &str) {
    let known: Vec<&str> = described.collect();
    let (source, _) = source.split_once(end_marker).unwrap();
    let is_word = |word: &&str| {
        word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for word in line.split('"').skip(1).step_by(2).filter(is_word) {
            assert!(known.contains(&word), "{word:?} is not described");
        }
    }
}

/// One of each kind, as they are met.
fn plugin_errors() -> Vec<PluginError> {
    let file = || PathBuf::from("plugins/10-vip.wasm");
    let text = String::from;
    let missing = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    vec![
        PluginError::Unreadable { path: file(), source: missing() },
        PluginError::NotAFile(file()),
        PluginError::FileChanging(file()),
        PluginError::InvalidFileName(PathBuf::from("vip…")),
        PluginError::EmptyFile,
        PluginError::FileTooLarge { size: 80_000_000, most: 67_108_864 },
        PluginError::SettingsNotText(PathBuf::from("plugins/10-vip.toml")),
        PluginError::InvalidSettings(TomlError {
            file: text("plugins/10-vip.toml"),
            line: Some(3),
            message: text("unknown field `timeuot`, expected …"),
            meant: Some(text("timeout")),
        }),
        PluginError::MemoryTooLarge { asked: 1 << 30, most: 256 << 20 },
        PluginError::NotWasm { start: text("#!/bin/sh") },
        PluginError::CoreModule,
        PluginError::HostPanicked,
        PluginError::NoThread(std::io::ErrorKind::WouldBlock.into()),
        PluginError::Precompiled,
        PluginError::ExceedsEngineLimits(text("…")),
        PluginError::Malformed(text("…")),
        PluginError::NoHook { expected: text("…"), found: text("nothing") },
        PluginError::ContractVersion { found: text("…"), spoken: "…" },
        PluginError::UnknownImport { import: text("…"), known: text("…") },
        PluginError::ContractMismatch { spoken: "…", detail: text("…") },
        PluginError::GrantSetup(text("…")),
        PluginError::InvalidToolNames(text("…")),
        PluginError::Instantiate(Box::new(PluginError::Busy)),
        PluginError::NotExported(Hook::Router),
        PluginError::Trap { message: text("…"), said: Some(text("…")) },
        PluginError::MemoryLimitExceeded { limit: 32 << 20 },
        PluginError::Timeout(Duration::from_millis(250)),
        PluginError::Busy,
        PluginError::CircuitOpen,
        PluginError::HostCallDataExceeded { limit: 1 << 20 },
        PluginError::TooLong { what: "prompt", length: 70_000, limit: 65_536 },
        PluginError::GuestError(text("…")),
        PluginError::NotJson { what: "result", detail: text("…") },
        PluginError::InvalidStsUrl(StsUrlError::NoHost),
    ]
}

fn plugin_remedy(error: &PluginError) -> &'static str {
    match error {
        PluginError::Unreadable { .. } => {
            "Look at owner and mode of the file. It is tried again by itself."
        }
        PluginError::NotAFile(_) => "Put the component itself there, or a link to it.",
        PluginError::FileChanging(_) => {
            "Write to another name and rename. It is tried again by itself."
        }
        PluginError::SettingsNotText(_) => "Save the settings as UTF-8.",
        PluginError::InvalidFileName(_) => "Rename the file.",
        PluginError::InvalidSettings(_) => {
            "Mend the line that it names. [All keys](plugin-settings.md)."
        }
        PluginError::MemoryTooLarge { .. } => {
            "Ask for less in `limits.memory`, or raise `engine.max_memory`."
        }
        PluginError::EmptyFile | PluginError::Malformed(_) => {
            "Copy it again: to another name, then rename. If that does not help, build it again."
        }
        PluginError::FileTooLarge { .. } => {
            "Build for release, with `strip = true` and `opt-level = \"s\"`."
        }
        PluginError::NotWasm { .. } => "Deploy the `.wasm` that the build made.",
        PluginError::CoreModule => "Build for `wasm32-wasip2`.",
        PluginError::HostPanicked => "Report it, with the file if you can.",
        PluginError::NoThread(_) => {
            "Raise the limit of threads (`ulimit -u`, `TasksMax`). It is tried again by itself."
        }
        PluginError::Precompiled => "Deploy the `.wasm`.",
        PluginError::ExceedsEngineLimits(_) => {
            "It names what it needs too much of: memory, tables, instances. Make it need less."
        }
        PluginError::NoHook { .. } => {
            "Say `export!(MyPlugin: Router)`, and `crate-type = [\"cdylib\", \"rlib\"]`."
        }
        PluginError::ContractVersion { .. } | PluginError::ContractMismatch { .. } => {
            "Build it against the SDK, or the `wit/`, of this Plugboard."
        }
        PluginError::UnknownImport { .. } => {
            "Do without it. A library wants more of its host than Plugboard lends."
        }
        PluginError::GrantSetup(_) => "Mend `[grants]` as it says.",
        PluginError::InvalidToolNames(_) => {
            "Mend the names in `tools()`, or in the settings' `[tools]`: 64 at the most, each once."
        }
        PluginError::Instantiate(_) => {
            "It says in what way the first instance failed: look there in this table."
        }
        PluginError::NotExported(_) => {
            "None: another version of the plugin was meant. If it stays, report it."
        }
        PluginError::Trap { .. } => {
            "A panic, or a bug. The message has the function, and what the plugin said last."
        }
        PluginError::MemoryLimitExceeded { .. } => {
            "Raise `limits.memory`, or make the plugin keep less."
        }
        PluginError::Timeout(_) => {
            "Raise the limit, or look at what it waits for. What is slow elsewhere, let it cache."
        }
        PluginError::Busy => {
            "Raise `engine.instances` if memory allows; look which plugin takes so long."
        }
        PluginError::CircuitOpen => {
            "Look at the failures before it. A new version, or other settings, are tried at once."
        }
        PluginError::HostCallDataExceeded { .. } | PluginError::TooLong { .. } => {
            "Make it say less."
        }
        PluginError::GuestError(_) => "The plugin's own words: ask its author.",
        PluginError::NotJson { .. } => "Return JSON, nested no deeper than 64.",
        PluginError::InvalidStsUrl(_) => {
            "Mend the URL; only path and query may have `{…}`. See `allowed_sts_hosts`, too."
        }
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
