//! `plugboard run`: runs one plugin with one event, and reports its outcome.

use std::fs;

use serde_json::{Value, json};
use tests::{
    Collector, CommandOutput, PluginFolder, ROUTING_GUEST, assert_golden, blackbox_fixture, event,
    fixture, guest_names, run_plugboard,
};

fn run(folder: &PluginFolder, plugin: &str, event: &str, arguments: &[&str]) -> CommandOutput {
    // Guests that end must not exceed a time limit because the machine is slow.
    let (config_file, limits) =
        (folder.path().join("plugboard.toml"), "[plugin_limits]\ntimeout = '30s'\n");
    if !["spins", "sleeps"].contains(&plugin) && !config_file.exists() {
        fs::write(
            config_file,
            format!(
                "{limits}event_timeout = '30s'\ntool_timeout = '30s'\n[limits]\n\
                 decision_timeout = '30s'\n"
            ),
        )
        .unwrap();
    }
    let file = format!("{plugin}.wasm");
    run_plugboard(folder.path(), &[&["run", &file], arguments].concat(), event)
}

/// Returns the start event of AVR's usual call.
fn start_event() -> String {
    fixture("call_initiated.json")
}

/// Returns BlackBox's request to invoke a tool.
fn tool_request(name: &str) -> String {
    let mut document: Value = serde_json::from_str(&blackbox_fixture("tool.json")).unwrap();
    document["toolName"] = json!(name);
    document.to_string()
}

/// Returns a suitable event for a guest, and settings if the guest needs them.
fn event_and_settings(guest: &str) -> (String, Option<&'static str>) {
    match guest {
        "tools" => (tool_request("echo"), Some("[config]\n")),
        "bad-tool" => (tool_request("bad"), None),
        "transfers" => (blackbox_fixture("transfer.json"), None),
        "observer" => (fixture("transcription.json"), Some("[config]\ndo = 'nothing'\n")),
        "full" => (blackbox_fixture("completed.json"), Some("[grants]\nkv = true\n")),
        "reaches" => (
            start_event(),
            Some(
                "[config]\nscript = '''\nkv.get a\nkv.set a value 60000\nkv.increment n 2\n\
                 kv.cas a value other\nkv.delete a\nhttp.GET http://crm.example.com/vip\n\
                 metrics.count calls kind=vip 1\nmetrics.observe seconds - 0.5'''\n\
                 [grants]\nkv = true\nmetrics = true\nhttp = ['crm.example.com:80']\n",
            ),
        ),
        "rules" => (
            start_event(),
            Some("[config]\nrules = 'to 5001 route ws://sts-rules/{to}'\nttl_ms = 60000\n"),
        ),
        _ => (start_event(), None),
    }
}

/// Guests whose call fails, or which cannot be loaded.
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
fn run_reports_behaviour_of_every_guest() {
    for guest in guest_names() {
        let (event, settings) = event_and_settings(&guest);
        let folder = PluginFolder::new().with_guest(&guest, &guest);
        let folder = match settings {
            Some(text) => folder.with_settings(&guest, text),
            None => folder,
        };
        let output = run(&folder, &guest, &event, &[]);
        assert_golden(&format!("run/{guest}"), &output.stdout);
        assert_eq!(
            output.status,
            i32::from(FAILING.contains(&&*guest)),
            "{guest}: {}",
            output.stderr
        );
    }
}

#[test]
fn run_counts_instructions_deterministically() {
    let folder = PluginFolder::new().with_guest("routes", ROUTING_GUEST).with_guest("wasi", "wasi");
    let measure = |plugin| {
        let document = run(&folder, plugin, &start_event(), &["--json"]).json();
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
fn run_reports_peak_memory() {
    let script = "[config]\nscript = 'kv.fill k 4000000'\n[grants]\nkv = true\n";
    let folder =
        PluginFolder::new().with_guest("reaches", "reaches").with_settings("reaches", script);
    let document = run(&folder, "reaches", &start_event(), &["--json"]).json();
    let call = &document["calls"][0];
    let memory = call["memory"].as_u64().unwrap();
    assert!((4_000_000..16_000_000).contains(&memory), "{memory}");
}

#[test]
fn trap_report_contains_function_file_and_line() {
    let folder = PluginFolder::new().with_guest("named", "with-names");
    let output = run(&folder, "named", &start_event(), &[]);
    let source = include_str!("../../guests/examples/panics.rs");
    let line = source.lines().position(|line| line.contains("panic!")).unwrap() + 1;
    assert!(
        output.stdout.contains(&format!("guests/examples/panics.rs:{line}")),
        "{}",
        output.stdout
    );
    let document = run(&folder, "named", &start_event(), &["--json"]).json();
    let call = &document["calls"][0];
    assert_eq!(call["error"]["label"], "trap");
    let frames = call["backtrace"].as_array().unwrap();
    let guest_frame = frames.iter().find(|frame| {
        frame["file"].as_str().is_some_and(|file| file.ends_with("examples/panics.rs"))
    });
    let guest_frame = guest_frame.unwrap_or_else(|| panic!("{frames:#?}"));
    assert_eq!(guest_frame["line"], line);
    let function = guest_frame["function"].as_str().unwrap();
    assert!(function.contains("decide"), "{guest_frame}");
}

#[test]
fn run_reads_and_saves_kv_file() {
    let script = "[config]\nscript = '''\nkv.get greeting\nkv.set greeting hello\n\
                  kv.increment n 2\nkv.delete old\nkv.get never'''\n";
    let granted = format!("{script}[grants]\nkv = true\n");
    let folder =
        PluginFolder::new().with_guest("reaches", "reaches").with_settings("reaches", &granted);
    let state = folder.path().join("state.json");
    let text = r#"{"greeting": "good day", "n": 40, "old": {"a": 1}, "kept": [1]}"#;
    fs::write(&state, text).unwrap();
    let output = run(&folder, "reaches", &start_event(), &["--kv", "state.json"]);
    assert_golden("run/kv", &output.stdout);
    assert_eq!(fs::read_to_string(&state).unwrap(), text, "the file changed without --save");
    let output =
        run(&folder, "reaches", &start_event(), &["--kv", "state.json", "--save", "--json"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let changes = json!([
        {"key": "greeting", "before": "good day", "after": "hello"},
        {"key": "n", "before": "40", "after": "42"},
        {"key": "old", "before": "{\"a\":1}", "after": null},
    ]);
    assert_eq!(output.json()["kv"], changes);
    let saved: Value = serde_json::from_str(&fs::read_to_string(&state).unwrap()).unwrap();
    assert_eq!(saved, json!({"greeting": "hello", "n": 42, "kept": [1]}));

    // With --save, the file may be absent before the first run.
    let output = run(&folder, "reaches", &start_event(), &["--kv", "new.json", "--save"]);
    assert_eq!(output.status, 0, "{}", output.stderr);
    let saved = fs::read(folder.path().join("new.json")).unwrap();
    let saved: Value = serde_json::from_slice(&saved).unwrap();
    assert_eq!(saved, json!({"greeting": "hello", "n": 2}));
    let output = run(&folder, "reaches", &start_event(), &["--kv", "nowhere.json"]);
    assert_eq!(output.status, 78, "an absent file is an error without --save");
    // The output has the changes even if saving them fails.
    let arguments = ["--kv", "nowhere/state.json", "--save"];
    let output = run(&folder, "reaches", &start_event(), &arguments);
    assert_eq!(output.status, 1, "{}", output.stdout);
    assert!(output.stdout.contains("greeting      none → hello"), "{}", output.stdout);
    assert!(output.stderr.contains("cannot write nowhere/state.json"), "{}", output.stderr);

    // Without the grant, the plugin cannot read or write values, as on a server.
    folder.replace_settings("reaches", script);
    let output = run(&folder, "reaches", &start_event(), &["--kv", "state.json"]);
    assert_golden("run/kv-refused", &output.stdout);
}

#[test]
fn run_answers_requests_from_mock_file() {
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
    let output = run(&folder, "reaches", &start_event(), &["--http-mock", "mock.json"]);
    assert_golden("run/http", &output.stdout);
    assert_eq!(output.status, 0);
    let document =
        run(&folder, "reaches", &start_event(), &["--http-mock", "mock.json", "--json"]).json();
    let steps = document["calls"][0]["steps"].as_array().unwrap();
    let sent = steps.iter().filter(|step| step["host_call"]["function"] == "http.send");
    let results: Vec<(&Value, &Value)> = sent
        .map(|step| (&step["host_call"]["result"], &step["host_call"]["error"]["label"]))
        .collect();
    let null = Value::Null;
    assert_eq!(
        results,
        [
            (&json!("503, 0 bytes"), &null),
            (&json!("200, 12 bytes"), &null),
            (&null, &json!("failed")),
            (&null, &json!("not_granted")),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn run_sends_requests_only_with_allow_http() {
    let collector = Collector::start().await;
    let settings = collector.settings("[limits]\nevent_timeout = '30s'\ntool_timeout = '30s'\n");
    let folder =
        PluginFolder::new().with_guest("observer", "observer").with_settings("observer", &settings);
    let started_event = event("call-1", "call_started", 1, &json!({}));
    let output = run(&folder, "observer", &started_event, &[]);
    assert_eq!(output.status, 1, "{}", output.stdout);
    assert!(output.stdout.contains("--allow-http"), "{}", output.stdout);
    assert_eq!(collector.requests().len(), 0);
    let output = run(&folder, "observer", &started_event, &["--allow-http"]);
    assert_eq!(output.status, 0, "{}", output.stdout);
    let [request] = &collector.requests()[..] else { panic!("{:?}", collector.requests()) };
    assert_eq!(request.body["kind"], "started");
}

#[test]
fn run_delivers_events_of_report_until_one_fails() {
    let folder = PluginFolder::new().with_guest("observer", "observer");
    folder.replace_settings("observer", "[config]\ndo = 'nothing'\n[events]\nkinds = ['ended']\n");
    let document =
        run(&folder, "observer", &blackbox_fixture("completed.json"), &["--json"]).json();
    let event_names = |document: &Value| -> Vec<String> {
        let calls = document["calls"].as_array().unwrap();
        calls.iter().map(|call| call["about"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        event_names(&document),
        ["event transcription", "event transcription", "event ended"]
    );
    let note = document["calls"][0]["notes"][0].as_str().unwrap();
    assert!(note.contains("events.kinds"), "{note}");
    assert_eq!(document["calls"][2]["notes"], json!([]));
    folder.replace_settings("observer", "[config]\ndo = 'error'\n");
    let output = run(&folder, "observer", &blackbox_fixture("completed.json"), &["--json"]);
    assert_eq!((output.status, event_names(&output.json()).len()), (1, 1));
}

#[test]
fn run_rejects_event_for_another_hook() {
    let folder =
        PluginFolder::new().with_guest("tools", "tools").with_guest("routes", ROUTING_GUEST);
    let output = run(&folder, "tools", &start_event(), &[]);
    assert_eq!(output.status, 1);
    let expected = "this event needs a plugin that exports router; this plugin exports tools";
    assert!(output.stdout.contains(expected), "{}", output.stdout);
    let output = run(&folder, "routes", &tool_request("echo"), &[]);
    assert!(
        output.stdout.contains("exports tools; this plugin exports router"),
        "{}",
        output.stdout
    );
    assert!(!output.stdout.contains("it has no tool"), "{}", output.stdout);
    // The note about event kinds in the settings must be absent here.
    let output = run(&folder, "routes", &fixture("transcription.json"), &[]);
    assert!(
        output.stdout.contains("exports observer; this plugin exports router"),
        "{}",
        output.stdout
    );
    assert!(!output.stdout.contains("the server would not"), "{}", output.stdout);
    let output = run(&folder, "tools", &tool_request("other"), &[]);
    assert!(output.stdout.contains("it has no tool `other`; it has: echo"), "{}", output.stdout);
}

#[test]
fn run_notes_differences_from_server() {
    let settings = "enabled = false\nplatforms = ['dsai']\n[match]\nto = '7*'\n[config]\n\
                    rules = 'platform dsai route ws://dsai'\n";
    let folder = PluginFolder::new().with_guest("rules", "rules").with_settings("rules", settings);
    let output = run(&folder, "rules", &start_event(), &[]);
    assert_golden("run/notes", &output.stdout);
    assert_eq!(output.status, 0);
    let output = run(&folder, "rules", &start_event(), &["--platform", "dsai", "--json"]);
    assert_eq!(output.json()["calls"][0]["outcome"]["sts_url"], "ws://dsai");
    let output = run(&folder, "rules", &start_event(), &["--platform", "blackbox"]);
    assert_eq!(output.status, 78);
    assert!(output.stderr.contains("standard input is not a valid event"), "{}", output.stderr);
}

#[test]
fn run_fills_url_if_platform_accepts_one() {
    let folder = PluginFolder::new().with_guest("routes", ROUTING_GUEST);
    let outcome = |event: &str| {
        run(&folder, "routes", event, &["--json"]).json()["calls"][0]["outcome"].clone()
    };
    let avr_outcome = outcome(&start_event());
    assert_eq!(avr_outcome["filled_url"], tests::ROUTING_GUEST_URL);
    assert_eq!(
        (&avr_outcome["kind"], &avr_outcome["verdict"]),
        (&json!("decision"), &json!("route"))
    );
    assert_eq!(outcome(&blackbox_fixture("start.json"))["filled_url"], Value::Null);
}

#[test]
fn run_reports_tool_results_and_transfer_answers() {
    let folder =
        PluginFolder::new().with_guest("tools", "tools").with_guest("transfers", "transfers");
    let outcome = |plugin, event: &str| {
        let output = run(&folder, plugin, event, &["--json"]);
        assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
        output.json()["calls"][0]["outcome"].clone()
    };
    let result = outcome("tools", &tool_request("echo"));
    assert_eq!(result["result"]["arguments"]["date"], "2025-10-25");
    let answer = outcome("transfers", &blackbox_fixture("transfer.json"));
    assert_eq!(answer["answer"]["accept"], true);
    // An error that the tool returns is an answer, so the exit status is 0.
    folder.replace_settings("tools", "[config]\ndo = 'error'\n");
    let error = outcome("tools", &tool_request("echo"));
    assert_eq!((&error["kind"], &error["code"]), (&json!("tool_error"), &json!("NO_SUCH_DAY")));
    folder.replace_settings("transfers", "[config]\ndo = 'nothing'\n");
    assert_eq!(outcome("transfers", &blackbox_fixture("transfer.json"))["answer"], Value::Null);
}

#[test]
fn run_rejects_unreadable_input_with_own_status() {
    let folder = PluginFolder::new()
        .with_guest("routes", ROUTING_GUEST)
        .with_guest("typo", ROUTING_GUEST)
        .with_settings("typo", "enabeld = true\n")
        .with_bytes("html", b"<html>");
    fs::write(folder.path().join("bad.json"), "[{\"method\": 1}]").unwrap();
    for (plugin, event, arguments, status, expected) in [
        ("routes", "", &[][..], 78, "standard input is empty"),
        ("routes", "no JSON", &[], 78, "standard input is not a valid event: as avr: "),
        ("routes", "{}", &[], 78, "as blackbox: "),
        ("routes", "", &["--event", "nowhere.json"], 78, "cannot read the event from nowhere.json"),
        ("routes", &start_event(), &["--settings", "nowhere.toml"], 78, "cannot read nowhere.toml"),
        ("routes", &start_event(), &["--kv", "bad.json"], 78, "bad.json is not a JSON object"),
        (
            "routes",
            &start_event(),
            &["--http-mock", "bad.json"],
            78,
            "bad.json is not a list of answers",
        ),
        ("routes", &start_event(), &["--config", "nowhere.toml"], 78, "cannot read nowhere.toml"),
        ("typo", &start_event(), &[], 78, "did you mean `enabled`?"),
        ("html", &start_event(), &[], 1, "the file is not WebAssembly"),
        ("nowhere", &start_event(), &[], 1, "cannot read nowhere.wasm"),
        ("routes", "", &["--save"], 2, "--kv"),
        ("routes", "", &["--platform", "avaya"], 2, "unknown variant `avaya`"),
        ("routes", "", &["--allow-http", "--http-mock", "bad.json"], 2, "cannot be used with"),
    ] {
        let output = run(&folder, plugin, event, arguments);
        let text = output.stdout + &output.stderr;
        assert_eq!(output.status, status, "{plugin} {arguments:?}: {text}");
        assert!(text.contains(expected), "{plugin} {arguments:?}: {text}");
    }
}
