//! Files in the documents: TOML is a valid configuration, JSON is well-formed, and files
//! that commands name exist.

use std::fs;
use std::process::Command;

use boon::{Compiler, Schemas};
use serde_json::{Value, json};
use tests::{PluginFolder, ROUTING_GUEST, program};

use super::page::{pages, root};

#[test]
fn documented_toml_is_valid_configuration_or_settings() {
    let mut checked = 0;
    for page in pages() {
        for block in page.blocks().into_iter().filter(|block| block.language == "toml") {
            checked += 1;
            let as_configuration = check(PluginFolder::new(), Some(&block.text));
            let folder = PluginFolder::new()
                .with_guest("10-vip", ROUTING_GUEST)
                .with_settings("10-vip", &block.text);
            let as_settings = check(folder, None);
            assert!(
                as_configuration.is_ok() || as_settings.is_ok(),
                "{}:{}: neither a valid configuration:\n{}nor valid plugin settings:\n{}",
                page.name,
                block.line,
                as_configuration.unwrap_err(),
                as_settings.unwrap_err(),
            );
        }
    }
    assert!(checked > 4, "only {checked}");
}

/// Runs `plugboard check`, and returns its output as the error if it fails.
fn check(folder: PluginFolder, configuration: Option<&str>) -> Result<(), String> {
    let mut command = Command::new(program());
    command.env_clear().args(["check", "--plugins"]).arg(folder.path());
    command.current_dir(folder.path());
    if let Some(text) = configuration {
        let file = folder.file("plugboard", "configuration");
        fs::write(&file, text).unwrap();
        command.arg("--config").arg(file);
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    if output.status.success() { Ok(()) } else { Err(text) }
}

#[test]
fn dashboards_schemas_and_alert_rules_are_well_formed() {
    for file in [
        "docs/operations/grafana.json",
        "docs/reference/plugboard.schema.json",
        "docs/reference/plugin.schema.json",
    ] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let _: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    let dashboard = fs::read_to_string(root().join("docs/operations/grafana.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        let own = &panel["datasource"]["uid"];
        assert_eq!(own, "${datasource}", "{}", panel["title"]);
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(&target["datasource"]["uid"], own, "{}", panel["title"]);
            let expression = target["expr"].as_str().unwrap();
            assert!(is_balanced(expression), "{expression}");
        }
    }
    // This check has no YAML parser, so the rules must have a fixed form: one line for each
    // key, in the same order.
    let rules = fs::read_to_string(root().join("docs/operations/alerts.yml")).unwrap();
    let mut alerts = rules.split("      - alert: ").skip(1).peekable();
    assert!(alerts.peek().is_some());
    for alert in alerts {
        let lines: Vec<&str> = alert.lines().collect();
        let keys = ["        expr: ", "        for: ", "        labels:", "          severity: "];
        let keys = [&keys[..], &["        annotations:", "          summary: \""]].concat();
        let keys = [&keys[..], &["          description: \""]].concat();
        assert_eq!(lines.len(), keys.len() + 1, "{alert}");
        for (line, key) in lines[1..].iter().zip(keys) {
            assert!(line.starts_with(key), "{line:?} instead of {key:?} in {}", lines[0]);
            assert!(!key.ends_with('"') || line.matches('"').count() == 2, "{line}");
            assert!(!line.contains(" #") && is_balanced(line), "{line}");
        }
    }
}

#[test]
fn schemas_accept_valid_and_reject_invalid_files() {
    let good = json!({
        "listen": "127.0.0.1:9000",
        "limits": { "decision_timeout": "2s" },
        "ingress": { "allowed_networks": ["10.0.0.0/8"], "rate_limit": 5 },
        "blackbox": { "fallback": "reject", "headers": ["X-API-Key: k"] },
    });
    let bad = [
        json!({ "limits": { "decision_timeuot": "2s" } }),
        json!({ "limits": { "decision_timeout": 2 } }),
        json!({ "blackbox": { "fallback": "maybe" } }),
        json!({ "secret": 5 }),
    ];
    assert_schema("plugboard", &good, &bad);
    let good = json!({
        "platforms": ["avr"],
        "match": { "to": ["5001", "60*"], "from": "+39*", "metadata": { "channel": "PJSIP/*" } },
        "config": { "vip": "2000", "weight": 3, "list": [{ "url": "ws://a" }] },
        "events": { "kinds": ["started", "dtmf_digit"] },
        "grants": { "kv": true, "http": ["crm.example.com:443"] },
    });
    let bad = [
        json!({ "platforms": ["aver"] }),
        json!({ "match": { "to": [] } }),
        json!({ "events": { "kinds": ["start"] } }),
        json!({ "grants": { "metric": true } }),
    ];
    assert_schema("plugin", &good, &bad);
}

fn assert_schema(name: &str, good: &Value, bad: &[Value]) {
    let text = fs::read_to_string(root().join(format!("docs/reference/{name}.schema.json")));
    let document = serde_json::from_str(&text.unwrap()).unwrap();
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    compiler.add_resource("settings.json", document).unwrap();
    let index = compiler.compile("settings.json", &mut schemas).unwrap();
    schemas.validate(good, index).unwrap_or_else(|error| panic!("{name}: {error}"));
    for bad in bad {
        assert!(schemas.validate(bad, index).is_err(), "{name}: {bad} is accepted");
    }
}

/// Returns whether all brackets are closed in the right order.
fn is_balanced(text: &str) -> bool {
    let mut open = Vec::new();
    for c in text.chars() {
        match c {
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(c) => return false,
            _ => {}
        }
    }
    open.is_empty()
}
