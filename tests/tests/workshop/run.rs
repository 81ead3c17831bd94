//! `plugboard run`: one plugin, one event, and everything that there is to see of it.

use std::fs;

use serde_json::{Value, json};
use tests::{
    Collector, CommandOutput, PluginFolder, ROUTING_GUEST, assert_golden, blackbox_fixture, event,
    fixture, guest_names, run_plugboard,
};

fn run(folder: &PluginFolder, plugin: &str, event: &str, arguments: &[&str]) -> CommandOutput {
    // Of those that come to an end, none is to come late because the machine is slow.
    let (patient, own) =
        (folder.path().join("plugboard.toml"), "[plugin_limits]\ntimeout = '30s'\n");
    if !["spins", "sleeps"].contains(&plugin) && !patient.exists() {
        fs::write(
            patient,
            format!("{own}event_timeout = '30s'\ntool_timeout = '30s'\n[limits]\nbudget = '30s'\n"),
        )
        .unwrap();
    }
    let file = format!("{plugin}.wasm");
    run_plugboard(folder.path(), &[&["run", &file], arguments].concat(), event)
}

/// The start of AVR's usual call.
fn start() -> String {
    fixture("call_initiated.json")
}

/// A use of a tool, as BlackBox asks for it.
fn tool(name: &str) -> String {
    let mut document: Value = serde_json::from_str(&blackbox_fixture("tool.json")).unwrap();
    document["toolName"] = json!(name);
    document.to_string()
}

/// What suits a guest: an event, and settings if it needs any.
fn suits(guest: &str) -> (String, Option<&'static str>) {
    match guest {
        "tools" => (tool("echo"), Some("[config]\n")),
        "bad-tool" => (tool("bad"), None),
        "transfers" => (blackbox_fixture("transfer.json"), None),
        "observer" => (fixture("transcription.json"), Some("[config]\ndo = 'nothing'\n")),
        "full" => (blackbox_fixture("completed.json"), Some("[grants]\nkv = true\n")),
        "reaches" => (
            start(),
            Some(
                "[config]\nscript = '''\nkv.get a\nkv.set a value 60000\nkv.increment n 2\n\
                 kv.cas a value other\nkv.delete a\nhttp.GET http://crm.example.com/vip\n\
                 metrics.count calls kind=vip 1\nmetrics.observe seconds - 0.5'''\n\
                 [grants]\nkv = true\nmetrics = true\nhttp = ['crm.example.com:80']\n",
            ),
        ),
        "rules" => (
            start(),
            Some("[config]\nrules = 'to 5001 route ws://sts-rules/{to}'\nttl_ms = 60000\n"),
        ),
        _ => (start(), None),
    }
}

/// Those that fail at what they are asked, or cannot even be loaded.
const FAILING: [&str; 18] = [
    "allocates",
    "bad-tool",
    "bad-url",
    "core-module",
    "errs",
    "exits",
    "long-string",
    "no-hook",
    "old-contract",
    "panics",
    "recurses",
    "sleeps",
    "spins",
    "traps",
    "unknown-import",
    "unknown-name",
    "with-names",
    "wrong-function",
];

#[test]
fn every_guest_shows_what_it_does() {
    for guest in guest_names() {
        let (event, settings) = suits(&guest);
        let folder = PluginFolder::new().with_guest(&guest, &guest);
        let folder = match settings {
            Some(text) => folder.with_settings(&guest, text),
            None => folder,
        };
        let ended = run(&folder, &guest, &event, &[]);
        assert_golden(&format!("run/{guest}"), &ended.stdout);
        assert_eq!(
            ended.status,
            i32::from(FAILING.contains(&&*guest)),
            "{guest}: {}",
            ended.stderr
        );
    }
}

#[test]
fn instructions_are_counted_and_are_the_same_each_time() {
    let folder = PluginFolder::new().with_guest("routes", ROUTING_GUEST).with_guest("wasi", "wasi");
    let measure = |plugin| {
        let document = run(&folder, plugin, &start(), &["--json"]).json();
        let call = &document["calls"][0];
        (call["instructions"].as_u64().unwrap(), call["memory"].as_u64().unwrap())
    };
    let (instructions, memory) = measure("routes");
    assert!((100..1_000_000).contains(&instructions), "{instructions}");
    assert!((64 << 10..8 << 20).contains(&memory), "{memory}");
    assert_eq!(measure("routes"), (instructions, memory));
    assert!(measure("wasi").0 > instructions);
}

#[test]
fn memory_is_the_most_that_there_was() {
    let script = "[config]\nscript = 'kv.fill k 4000000'\n[grants]\nkv = true\n";
    let folder =
        PluginFolder::new().with_guest("reaches", "reaches").with_settings("reaches", script);
    let document = run(&folder, "reaches", &start(), &["--json"]).json();
    let call = &document["calls"][0];
    let memory = call["memory"].as_u64().unwrap();
    assert!((4_000_000..16_000_000).contains(&memory), "{memory}");
}

#[test]
fn a_trap_tells_function_file_and_line() {
    let folder = PluginFolder::new().with_guest("named", "with-names");
    let ended = run(&folder, "named", &start(), &[]);
    let source = include_str!("../../guests/examples/panics.rs");
    let line = source.lines().position(|line| line.contains("panic!")).unwrap() + 1;
    assert!(
        ended.stdout.contains(&format!("guests/examples/panics.rs:{line}")),
        "{}",
        ended.stdout
    );
    let document = run(&folder, "named", &start(), &["--json"]).json();
    let call = &document["calls"][0];
    assert_eq!(call["error"]["label"], "trap");
    let frames = call["backtrace"].as_array().unwrap();
    let own = frames.iter().find(|frame| {
        frame["file"].as_str().is_some_and(|file| file.ends_with("examples/panics.rs"))
    });
    let own = own.unwrap_or_else(|| panic!("{frames:#?}"));
    assert_eq!(own["line"], line);
    assert!(own["function"].as_str().unwrap().contains("decide"), "{own}");
}

#[test]
fn values_come_from_a_file_and_can_go_back_to_it() {
    let script = "[config]\nscript = '''\nkv.get greeting\nkv.set greeting hello\n\
                  kv.increment n 2\nkv.delete old\nkv.get never'''\n";
    let granted = format!("{script}[grants]\nkv = true\n");
    let folder =
        PluginFolder::new().with_guest("reaches", "reaches").with_settings("reaches", &granted);
    let state = folder.path().join("state.json");
    let text = r#"{"greeting": "good day", "n": 40, "old": {"a": 1}, "kept": [1]}"#;
    fs::write(&state, text).unwrap();
    let ended = run(&folder, "reaches", &start(), &["--kv", "state.json"]);
    assert_golden("run/kv", &ended.stdout);
    assert_eq!(fs::read_to_string(&state).unwrap(), text, "it is not changed unasked");
    let ended = run(&folder, "reaches", &start(), &["--kv", "state.json", "--save", "--json"]);
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let changes = json!([
        {"key": "greeting", "before": "good day", "after": "hello"},
        {"key": "n", "before": "40", "after": "42"},
        {"key": "old", "before": "{\"a\":1}", "after": null},
    ]);
    assert_eq!(ended.json()["kv"], changes);
    let saved: Value = serde_json::from_str(&fs::read_to_string(&state).unwrap()).unwrap();
    assert_eq!(saved, json!({"greeting": "hello", "n": 42, "kept": [1]}));

    // The first run of several has nothing to start from.
    let ended = run(&folder, "reaches", &start(), &["--kv", "new.json", "--save"]);
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let saved = fs::read(folder.path().join("new.json")).unwrap();
    let saved: Value = serde_json::from_slice(&saved).unwrap();
    assert_eq!(saved, json!({"greeting": "hello", "n": 2}));
    let ended = run(&folder, "reaches", &start(), &["--kv", "nowhere.json"]);
    assert_eq!(ended.status, 78, "without --save it is a mistake");
    // What cannot be saved was shown all the same.
    let lost = ["--kv", "nowhere/state.json", "--save"];
    let ended = run(&folder, "reaches", &start(), &lost);
    assert_eq!(ended.status, 1, "{}", ended.stdout);
    assert!(ended.stdout.contains("greeting      none → hello"), "{}", ended.stdout);
    assert!(ended.stderr.contains("cannot write nowhere/state.json"), "{}", ended.stderr);

    // Without the grant nothing is read or written, as in service.
    folder.replace_settings("reaches", script);
    let ended = run(&folder, "reaches", &start(), &["--kv", "state.json"]);
    assert_golden("run/kv-refused", &ended.stdout);
}

#[test]
fn requests_are_answered_by_a_file() {
    let script = "[config]\nscript = '''\nhttp.GET http://crm.example.com/vip\n\
                  http.GET http://crm.example.com/vip\nhttp.POST http://crm.example.com/log x\n\
                  http.GET http://other.example.com/'''\n[grants]\nhttp = ['crm.example.com']\n";
    let folder =
        PluginFolder::new().with_guest("reaches", "reaches").with_settings("reaches", script);
    let mock = json!([
        {"method": "GET", "url": "http://crm.example.com/vip", "status": 503, "times": 1},
        {"method": "GET", "url": "http://crm.example.com/vip", "status": 200,
         "headers": {"Content-Type": "application/json"}, "body": {"vip": true}},
    ]);
    fs::write(folder.path().join("mock.json"), mock.to_string()).unwrap();
    let ended = run(&folder, "reaches", &start(), &["--http", "mock.json"]);
    assert_golden("run/http", &ended.stdout);
    assert_eq!(ended.status, 0);
    let document = run(&folder, "reaches", &start(), &["--http", "mock.json", "--json"]).json();
    let steps = document["calls"][0]["steps"].as_array().unwrap();
    let sent = steps.iter().filter(|step| step["host_call"]["function"] == "http.send");
    let came: Vec<(&Value, &Value)> = sent
        .map(|step| (&step["host_call"]["result"], &step["host_call"]["error"]["label"]))
        .collect();
    let null = Value::Null;
    assert_eq!(
        came,
        [
            (&json!("503, 0 bytes"), &null),
            (&json!("200, 12 bytes"), &null),
            (&null, &json!("failed")),
            (&null, &json!("not_granted")),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_sent_only_when_it_is_allowed() {
    let collector = Collector::start().await;
    let settings = collector.settings("[limits]\nevent_timeout = '30s'\ntool_timeout = '30s'\n");
    let folder =
        PluginFolder::new().with_guest("observer", "observer").with_settings("observer", &settings);
    let started = event("call-1", "call_started", 1, &json!({}));
    let unsent = run(&folder, "observer", &started, &[]);
    assert_eq!(unsent.status, 1, "{}", unsent.stdout);
    assert!(unsent.stdout.contains("--allow-http"), "{}", unsent.stdout);
    assert_eq!(collector.requests().len(), 0);
    let sent = run(&folder, "observer", &started, &["--allow-http"]);
    assert_eq!(sent.status, 0, "{}", sent.stdout);
    let [told] = &collector.requests()[..] else { panic!("{:?}", collector.requests()) };
    assert_eq!(told.body["kind"], "started");
}

#[test]
fn of_a_report_each_event_is_told_until_one_fails() {
    let folder = PluginFolder::new().with_guest("observer", "observer");
    folder.replace_settings("observer", "[config]\ndo = 'nothing'\n[events]\nkinds = ['ended']\n");
    let document =
        run(&folder, "observer", &blackbox_fixture("completed.json"), &["--json"]).json();
    let about = |document: &Value| -> Vec<String> {
        let calls = document["calls"].as_array().unwrap();
        calls.iter().map(|call| call["about"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(about(&document), ["event transcription", "event transcription", "event ended"]);
    let note = document["calls"][0]["notes"][0].as_str().unwrap();
    assert!(note.contains("events.kinds"), "{note}");
    assert_eq!(document["calls"][2]["notes"], json!([]));
    folder.replace_settings("observer", "[config]\ndo = 'error'\n");
    let ended = run(&folder, "observer", &blackbox_fixture("completed.json"), &["--json"]);
    assert_eq!((ended.status, about(&ended.json()).len()), (1, 1));
}

#[test]
fn an_event_for_another_kind_of_plugin_is_an_error_that_says_so() {
    let folder =
        PluginFolder::new().with_guest("tools", "tools").with_guest("routes", ROUTING_GUEST);
    let ended = run(&folder, "tools", &start(), &[]);
    assert_eq!(ended.status, 1);
    let expected = "this event is for a plugin that exports router; this one exports tools";
    assert!(ended.stdout.contains(expected), "{}", ended.stdout);
    let ended = run(&folder, "routes", &tool("echo"), &[]);
    assert!(ended.stdout.contains("exports tools; this one exports router"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("it has no tool"), "{}", ended.stdout);
    // Its settings have nothing to do with it.
    let ended = run(&folder, "routes", &fixture("transcription.json"), &[]);
    assert!(ended.stdout.contains("exports observer; this one exports router"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("in service"), "{}", ended.stdout);
    let ended = run(&folder, "tools", &tool("other"), &[]);
    assert!(ended.stdout.contains("it has no tool `other`; it has: echo"), "{}", ended.stdout);
}

#[test]
fn what_would_be_otherwise_in_service_is_noted() {
    let settings = "enabled = false\nplatforms = ['dsai']\n[match]\nto = '7*'\n[config]\n\
                    rules = 'platform dsai route ws://dsai'\n";
    let folder = PluginFolder::new().with_guest("rules", "rules").with_settings("rules", settings);
    let ended = run(&folder, "rules", &start(), &[]);
    assert_golden("run/notes", &ended.stdout);
    assert_eq!(ended.status, 0);
    let ended = run(&folder, "rules", &start(), &["--platform", "dsai", "--json"]);
    assert_eq!(ended.json()["calls"][0]["outcome"]["sts_url"], "ws://dsai");
    let ended = run(&folder, "rules", &start(), &["--platform", "blackbox"]);
    assert_eq!(ended.status, 78);
    assert!(ended.stderr.contains("standard input is no event"), "{}", ended.stderr);
}

#[test]
fn a_url_is_filled_for_the_platforms_that_take_one() {
    let folder = PluginFolder::new().with_guest("routes", ROUTING_GUEST);
    let outcome = |event: &str| {
        run(&folder, "routes", event, &["--json"]).json()["calls"][0]["outcome"].clone()
    };
    let filled = outcome(&start());
    assert_eq!(filled["filled_url"], tests::ROUTING_GUEST_URL);
    assert_eq!((&filled["kind"], &filled["verdict"]), (&json!("decision"), &json!("route")));
    assert_eq!(outcome(&blackbox_fixture("start.json"))["filled_url"], Value::Null);
}

#[test]
fn tools_and_transfers_are_answered() {
    let folder =
        PluginFolder::new().with_guest("tools", "tools").with_guest("transfers", "transfers");
    let outcome = |plugin, event: &str| {
        let ended = run(&folder, plugin, event, &["--json"]);
        assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
        ended.json()["calls"][0]["outcome"].clone()
    };
    let result = outcome("tools", &tool("echo"));
    assert_eq!(result["result"]["arguments"]["date"], "2025-10-25");
    let answer = outcome("transfers", &blackbox_fixture("transfer.json"));
    assert_eq!(answer["answer"]["accept"], true);
    // A tool's own error is an answer.
    folder.replace_settings("tools", "[config]\ndo = 'error'\n");
    let error = outcome("tools", &tool("echo"));
    assert_eq!((&error["kind"], &error["code"]), (&json!("tool_error"), &json!("NO_SUCH_DAY")));
    folder.replace_settings("transfers", "[config]\ndo = 'nothing'\n");
    assert_eq!(outcome("transfers", &blackbox_fixture("transfer.json"))["answer"], Value::Null);
}

#[test]
fn what_cannot_be_read_has_a_status_of_its_own() {
    let folder = PluginFolder::new()
        .with_guest("routes", ROUTING_GUEST)
        .with_guest("typo", ROUTING_GUEST)
        .with_settings("typo", "enabeld = true\n")
        .with_bytes("html", b"<html>");
    fs::write(folder.path().join("bad.json"), "[{\"method\": 1}]").unwrap();
    for (plugin, event, arguments, status, expected) in [
        ("routes", "", &[][..], 78, "standard input is empty"),
        ("routes", "no JSON", &[], 78, "standard input is no event: as avr: "),
        ("routes", "{}", &[], 78, "as blackbox: "),
        ("routes", "", &["--event", "nowhere.json"], 78, "cannot read the event from nowhere.json"),
        ("routes", &start(), &["--settings", "nowhere.toml"], 78, "cannot read nowhere.toml"),
        ("routes", &start(), &["--kv", "bad.json"], 78, "bad.json is no JSON object"),
        ("routes", &start(), &["--http", "bad.json"], 78, "bad.json is no list of answers"),
        ("routes", &start(), &["--config", "nowhere.toml"], 78, "cannot read nowhere.toml"),
        ("typo", &start(), &[], 78, "did you mean `enabled`?"),
        ("html", &start(), &[], 1, "this is not WebAssembly"),
        ("nowhere", &start(), &[], 1, "cannot read nowhere.wasm"),
        ("routes", "", &["--save"], 2, "--kv"),
        ("routes", "", &["--platform", "avaya"], 2, "unknown variant `avaya`"),
        ("routes", "", &["--allow-http", "--http", "bad.json"], 2, "cannot be used with"),
    ] {
        let ended = run(&folder, plugin, event, arguments);
        let said = ended.stdout + &ended.stderr;
        assert_eq!(ended.status, status, "{plugin} {arguments:?}: {said}");
        assert!(said.contains(expected), "{plugin} {arguments:?}: {said}");
    }
}
