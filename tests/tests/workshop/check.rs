//! `plugboard check FILE`: the report about plugins and their errors.

use std::fs;

use serde_json::Value;
use tests::{
    CommandOutput, PluginFolder, ROUTING_GUEST, ServerBuilder, assert_golden, guest_bytes,
    guest_names, run_plugboard,
};

fn check(folder: &PluginFolder, arguments: &[&str]) -> CommandOutput {
    run_plugboard(folder.path(), &[&["check"], arguments].concat(), "")
}

/// Fixture guests that the server cannot load.
const BROKEN: [&str; 5] =
    ["core-module", "no-hook", "old-contract", "unknown-import", "wrong-function"];

#[test]
fn check_describes_every_guest() {
    for guest in guest_names() {
        let folder = PluginFolder::new().with_guest(&guest, &guest);
        let output = check(&folder, &[&format!("{guest}.wasm")]);
        assert_golden(&format!("check/{guest}"), &output.stdout);
        assert_eq!(
            output.status,
            i32::from(BROKEN.contains(&&*guest)),
            "{guest}: {}",
            output.stderr
        );
    }
}

/// Each kind of damage has a report with the error and its remedy.
#[test]
fn check_reports_error_and_remedy_of_broken_files() {
    let good = guest_bytes(ROUTING_GUEST);
    let cases: [(&str, &[u8], Option<&str>); 8] = [
        ("bad-empty", b"", None),
        ("bad-not-wasm", b"<!doctype html>", None),
        ("bad-truncated", &good[..good.len() / 2], None),
        ("bad-compiled", &machine_code(), None),
        ("bad-settings", &good, Some("[limits]\ntimeuot = '1s'\n")),
        ("bad-grant", &good, Some("[grants]\nhttp = ['http://crm/']\n")),
        ("bad-memory", &good, Some("[limits]\nmemory = '8GiB'\n")),
        ("bad-too-little-memory", &good, Some("[limits]\nmemory = '64KiB'\n")),
    ];
    for (name, bytes, settings) in cases {
        let folder = PluginFolder::new().with_bytes(name, bytes);
        let folder = match settings {
            Some(text) => folder.with_settings(name, text),
            None => folder,
        };
        let output = check(&folder, &[&format!("{name}.wasm")]);
        assert_golden(&format!("check/{name}"), &output.stdout);
        assert_eq!(output.status, 1, "{name}: {}", output.stderr);
    }
    let folder = PluginFolder::new();
    let output = check(&folder, &["nowhere.wasm"]);
    assert_golden("check/bad-nowhere", &output.stdout);
    assert_eq!(output.status, 1);
}

/// Returns machine code that wasmtime compiled.
fn machine_code() -> Vec<u8> {
    let (folder, data) =
        (PluginFolder::new().with_guest("10-a", ROUTING_GUEST), tempfile::tempdir().unwrap());
    ServerBuilder::new(folder.path()).with_data_folder(data.path()).start().stop();
    let file = fs::read_dir(data.path().join("compiled")).unwrap().next().unwrap().unwrap();
    let bytes = fs::read(file.path()).unwrap();
    let start = bytes.windows(4).position(|window| window == b"\x7fELF").unwrap();
    bytes[start..].to_vec()
}

#[test]
fn check_reports_effective_settings() {
    let settings = r#"
        platforms = ["avr", "dsai"]
        on_failure = "stop"
        [match]
        to = ["5001", "60*"]
        metadata.channel = "PJSIP/*"
        [config]
        secret = "do not show"
        [limits]
        timeout = "100ms"
        memory = "8MiB"
        [events]
        kinds = ["started", "ended"]
        [grants]
        kv = true
        metrics = true
        http = ["CRM.example.com:443", "*.example.org", "10.0.0.0/8:8080", "[fd00::1]:81"]
    "#;
    let folder = PluginFolder::new().with_guest("full", "full").with_settings("other", settings);
    let output = check(&folder, &["full.wasm", "--settings", "other.toml"]);
    assert_golden("check/settings", &output.stdout);
    assert_eq!(output.status, 0);
    assert!(!output.stdout.contains("do not show"));
    let document = check(&folder, &["full.wasm", "--settings", "other.toml", "--json"]).json();
    let plugin = &document["plugins"][0];
    assert_eq!(plugin["state"], "good");
    assert_eq!(plugin["component"]["hooks"].as_array().unwrap().len(), 4);
    assert_eq!(plugin["component"]["contract"][0], "0.1.0");
    assert_eq!(plugin["settings"]["limits"]["timeout_ms"], 100);
    assert_eq!(plugin["settings"]["match"]["to"][1], "60*");
    assert_eq!(plugin["settings"]["grants"]["http"][0], "crm.example.com:443");
    assert_eq!(plugin["tools"][0], "seen");
    assert!(plugin["compile_us"].as_u64().unwrap() > 0);
    assert_eq!(plugin["instance"]["core_instances"], 3);
    // The initial memory of the instance equals the memory that the file declares.
    let memory = plugin["instance"]["memory"].as_u64().unwrap();
    assert_eq!(plugin["component"]["needs"]["initial_memory"], memory);
    assert!((64 << 10..8 << 20).contains(&memory), "{memory}");
    assert_eq!(plugin["bytes"], guest_bytes("full").len());
}

#[test]
fn check_describes_disabled_plugin_without_error() {
    let folder = PluginFolder::new()
        .with_guest("off", ROUTING_GUEST)
        .with_settings("off", "enabled = false\n");
    let output = check(&folder, &["off.wasm"]);
    assert_eq!(output.status, 0, "{}", output.stdout);
    assert!(output.stdout.starts_with("off: disabled by its settings"), "{}", output.stdout);
    assert!(output.stdout.contains("hooks         router"), "{}", output.stdout);
}

#[test]
fn check_reports_several_files_and_folders() {
    let folder = PluginFolder::new()
        .with_guest("10-good", ROUTING_GUEST)
        .with_guest("20-core", "core-module");
    let output = check(&folder, &["10-good.wasm", "20-core.wasm"]);
    assert_eq!(output.status, 1);
    assert!(output.stdout.ends_with("\n1 good, 1 broken\n"), "{}", output.stdout);
    let output = check(&folder, &["--plugins", ".", "--json"]);
    assert_eq!(output.status, 1);
    let document = output.json();
    let states: Vec<&Value> =
        document["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["state"]).collect();
    assert_eq!(states, ["good", "broken"]);
    let error = &document["plugins"][1]["error"];
    assert_eq!((&error["stage"], &error["label"]), (&"compile".into(), &"core_module".into()));
}

#[test]
fn check_rejects_invalid_command_line() {
    let folder = PluginFolder::new().with_guest("a", ROUTING_GUEST).with_guest("b", ROUTING_GUEST);
    for bad in [
        &["a.wasm", "b.wasm", "--settings", "a.toml"][..],
        &["--settings", "a.toml"],
        &["a.wasm", "--plugins", "."],
        &["--no-such-flag"],
    ] {
        assert_eq!(check(&folder, bad).status, 2, "{bad:?}");
    }
    for flag in ["--config", "--settings"] {
        let output = check(&folder, &["a.wasm", flag, "nowhere.toml"]);
        assert_eq!(output.status, 78, "{flag}: {}", output.stdout);
        assert!(output.stderr.contains("cannot read nowhere.toml"), "{flag}: {}", output.stderr);
    }
}
