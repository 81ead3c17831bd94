//! `plugboard check FILE`: what can be found out about plugins, and in which words.

use std::fs;

use serde_json::Value;
use tests::{
    CommandOutput, PluginFolder, ROUTING_GUEST, ServerBuilder, assert_golden, guest_bytes,
    guest_names, run_plugboard,
};

fn check(folder: &PluginFolder, arguments: &[&str]) -> CommandOutput {
    run_plugboard(folder.path(), &[&["check"], arguments].concat(), "")
}

/// What is wrong with these, a plugin cannot be loaded for.
const BROKEN: [&str; 5] =
    ["core-module", "no-hook", "old-contract", "unknown-import", "wrong-function"];

#[test]
fn every_guest_is_described() {
    for guest in guest_names() {
        let folder = PluginFolder::new().with_guest(&guest, &guest);
        let ended = check(&folder, &[&format!("{guest}.wasm")]);
        assert_golden(&format!("check/{guest}"), &ended.stdout);
        assert_eq!(ended.status, i32::from(BROKEN.contains(&&*guest)), "{guest}: {}", ended.stderr);
    }
}

/// Of every kind of damage, what its author is told.
#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let good = guest_bytes(ROUTING_GUEST);
    let cases: [(&str, &[u8], Option<&str>); 8] = [
        ("bad-empty", b"", None),
        ("bad-not-wasm", b"<!doctype html>", None),
        ("bad-truncated", &good[..good.len() / 2], None),
        ("bad-compiled", &compiled(), None),
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
        let ended = check(&folder, &[&format!("{name}.wasm")]);
        assert_golden(&format!("check/{name}"), &ended.stdout);
        assert_eq!(ended.status, 1, "{name}: {}", ended.stderr);
    }
    let folder = PluginFolder::new();
    let ended = check(&folder, &["nowhere.wasm"]);
    assert_golden("check/bad-nowhere", &ended.stdout);
    assert_eq!(ended.status, 1);
}

/// Machine code of wasmtime's.
fn compiled() -> Vec<u8> {
    let (folder, data) =
        (PluginFolder::new().with_guest("10-a", ROUTING_GUEST), tempfile::tempdir().unwrap());
    ServerBuilder::new(folder.path()).with_data_folder(data.path()).start().stop();
    let file = fs::read_dir(data.path().join("compiled")).unwrap().next().unwrap().unwrap();
    let bytes = fs::read(file.path()).unwrap();
    let start = bytes.windows(4).position(|window| window == b"\x7fELF").unwrap();
    bytes[start..].to_vec()
}

#[test]
fn settings_are_told_as_what_they_come_to() {
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
    let ended = check(&folder, &["full.wasm", "--settings", "other.toml"]);
    assert_golden("check/settings", &ended.stdout);
    assert_eq!(ended.status, 0);
    assert!(!ended.stdout.contains("do not show"));
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
    // What it starts with is what the file says that it needs.
    let memory = plugin["instance"]["memory"].as_u64().unwrap();
    assert_eq!(plugin["component"]["needs"]["initial_memory"], memory);
    assert!((64 << 10..8 << 20).contains(&memory), "{memory}");
    assert_eq!(plugin["bytes"], guest_bytes("full").len());
}

#[test]
fn a_disabled_plugin_is_described_and_not_broken() {
    let folder = PluginFolder::new()
        .with_guest("off", ROUTING_GUEST)
        .with_settings("off", "enabled = false\n");
    let ended = check(&folder, &["off.wasm"]);
    assert_eq!(ended.status, 0, "{}", ended.stdout);
    assert!(ended.stdout.starts_with("off: switched off by its settings"), "{}", ended.stdout);
    assert!(ended.stdout.contains("hooks         router"), "{}", ended.stdout);
}

#[test]
fn several_files_and_folders_are_judged_together() {
    let folder = PluginFolder::new()
        .with_guest("10-good", ROUTING_GUEST)
        .with_guest("20-core", "core-module");
    let ended = check(&folder, &["10-good.wasm", "20-core.wasm"]);
    assert_eq!(ended.status, 1);
    assert!(ended.stdout.ends_with("\n1 good, 1 broken\n"), "{}", ended.stdout);
    let ended = check(&folder, &["--plugins", ".", "--json"]);
    assert_eq!(ended.status, 1);
    let document = ended.json();
    let states: Vec<&Value> =
        document["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["state"]).collect();
    assert_eq!(states, ["good", "broken"]);
    let error = &document["plugins"][1]["error"];
    assert_eq!((&error["stage"], &error["label"]), (&"compile".into(), &"core_module".into()));
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
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
        let ended = check(&folder, &["a.wasm", flag, "nowhere.toml"]);
        assert_eq!(ended.status, 78, "{flag}: {}", ended.stdout);
        assert!(ended.stderr.contains("cannot read nowhere.toml"), "{flag}: {}", ended.stderr);
    }
}
