//! What is to be written into files: TOML is taken, JSON is JSON, and what a command
//! names is there.

use std::fs;
use std::process::Command;

use boon::{Compiler, Schemas};
use serde_json::{Value, json};
use tests::{PluginFolder, ROUTING_GUEST, program};

use super::page::{pages, root};

#[test]
fn every_toml_is_a_configuration_or_a_plugins_settings() {
    let mut judged = 0;
    for page in pages() {
        for block in page.blocks().into_iter().filter(|block| block.language == "toml") {
            judged += 1;
            let as_configuration = check(PluginFolder::new(), Some(&block.text));
            let folder = PluginFolder::new()
                .with_guest("10-vip", ROUTING_GUEST)
                .with_settings("10-vip", &block.text);
            let as_settings = check(folder, None);
            assert!(
                as_configuration.is_ok() || as_settings.is_ok(),
                "{}:{}: neither a configuration:\n{}nor a plugin's settings:\n{}",
                page.name,
                block.line,
                as_configuration.unwrap_err(),
                as_settings.unwrap_err(),
            );
        }
    }
    assert!(judged > 4, "only {judged}");
}

/// What `plugboard check` says of it, if it is not content.
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
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn json_is_json_and_rules_are_whole() {
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
    // There is no reader of YAML here, so the rules are as simple as they can be: one
    // line for each key, in the same order.
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
            assert!(line.starts_with(key), "{line:?} where {key:?} should be, of {}", lines[0]);
            assert!(!key.ends_with('"') || line.matches('"').count() == 2, "{line}");
            assert!(!line.contains(" #") && is_balanced(line), "{line}");
        }
    }
}

#[test]
fn editors_know_good_from_bad() {
    let good = json!({
        "listen": "127.0.0.1:9000",
        "limits": { "budget": "2s" },
        "senders": { "allow": ["10.0.0.0/8"], "rate": 5 },
        "blackbox": { "fallback": "reject", "headers": ["X-API-Key: k"] },
    });
    let bad = [
        json!({ "limits": { "bugdet": "2s" } }),
        json!({ "limits": { "budget": 2 } }),
        json!({ "blackbox": { "fallback": "maybe" } }),
        json!({ "secret": 5 }),
    ];
    judge("plugboard", &good, &bad);
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
    judge("plugin", &good, &bad);
}

fn judge(name: &str, good: &Value, bad: &[Value]) {
    let text = fs::read_to_string(root().join(format!("docs/reference/{name}.schema.json")));
    let document = serde_json::from_str(&text.unwrap()).unwrap();
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    compiler.add_resource("settings.json", document).unwrap();
    let index = compiler.compile("settings.json", &mut schemas).unwrap();
    schemas.validate(good, index).unwrap_or_else(|error| panic!("{name}: {error}"));
    for bad in bad {
        assert!(schemas.validate(bad, index).is_err(), "{name}: {bad} is taken");
    }
}

/// Whether every bracket is closed.
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

#[test]
fn what_is_not_run_names_files_that_are_there() {
    let mut named = 0;
    for page in pages() {
        for block in page.blocks().into_iter().filter(|block| block.language == "console") {
            assert!(block.text.starts_with("$ "), "{}:{}", page.name, block.line);
            for word in block.text.split_whitespace() {
                let top = ["docs/", "tests/", "host/", "guest-sdk/", "wit/", "plugins/"];
                if top.iter().any(|folder| word.starts_with(folder)) {
                    named += 1;
                    let there = root().join(word).exists();
                    assert!(there, "{}:{}: there is no {word}", page.name, block.line);
                }
            }
        }
    }
    assert!(named > 1, "only {named}");
}
