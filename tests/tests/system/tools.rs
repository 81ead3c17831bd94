//! Tools that voice agents use in the middle of a call: whatever a plugin does, there
//! is an answer that an agent can use, and in time.

mod appointments;
mod cache;
mod chain;
mod load;

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Collector, PluginFolder, Server, ServerBuilder, ServerResponse, blackbox_document};

/// What an answer may take longer than its plugin may.
const SLACK: Duration = Duration::from_secs(2);

/// A tool's use in a call, with arguments.
fn used(tool: &str, call: &str, arguments: &Value) -> String {
    let mut document = blackbox_document("tool.json", call);
    document["toolName"] = json!(tool);
    document["arguments"] = arguments.clone();
    document.to_string()
}

/// The usual use of a tool, in the usual call.
async fn invoke(server: &Server, tool: &str) -> ServerResponse {
    server.post_blackbox(used(tool, "call", &json!({"n": 1}))).await
}

/// The fixture guest `tools` with these settings, under this name.
fn tools(folder: PluginFolder, name: &str, settings: &str) -> PluginFolder {
    folder.with_guest(name, "tools").with_settings(name, settings)
}

/// Its error in words, and for programs; there must be both.
fn error(answer: &ServerResponse) -> (u16, &str, &str) {
    let text = |name: &str| {
        let text = answer.body[name].as_str();
        text.unwrap_or_else(|| panic!("no `{name}`: {answer:?}"))
    };
    (answer.status, text("error"), text("errorCode"))
}

/// What goes wrong: settings of the plugin; status and code of the answer; the word
/// for it in the log.
const FAILURES: &[(&str, u16, &str, &str)] = &[
    ("do = 'trap'", 200, "TOOL_FAILED", "trap"),
    ("do = 'panic'", 200, "TOOL_FAILED", "trap"),
    ("do = 'allocate'", 200, "TOOL_FAILED", "memory"),
    ("do = 'spin'", 200, "TOOL_TIMEOUT", "timeout"),
    ("do = 'sleep'", 200, "TOOL_TIMEOUT", "timeout"),
    ("do = 'slow'\ndelay_ms = 5000", 200, "TOOL_TIMEOUT", "timeout"),
    ("do = 'deep'\ndepth = 65", 200, "TOOL_FAILED", "not_json"),
    ("do = 'deep'\ndepth = 500000", 200, "TOOL_FAILED", "not_json"),
    ("do = 'deep'\ndepth = 1000000", 200, "TOOL_FAILED", "too_much_data"),
    ("do = 'huge'\nbytes = 1048577", 200, "TOOL_FAILED", "too_much_data"),
    ("do = 'huge'\nbytes = 40000000", 200, "TOOL_FAILED", "memory"),
    ("do = 'long_error'\nbytes = 10\ncode_bytes = 129", 200, "TOOL_FAILED", "too_long"),
    ("do = 'long_error'\nbytes = 1048577", 200, "TOOL_FAILED", "too_much_data"),
];

/// Its own limit is nearer than the platform's; then the other way round.
#[tokio::test]
async fn whatever_goes_wrong_the_agent_is_told_so_in_time() {
    for (own, of_all) in [("1s", "20s"), ("20s", "1s")] {
        for (settings, status, code, label) in FAILURES {
            let settings =
                format!("[limits]\ntool_timeout = '{own}'\n[config]\nnames = 'bad'\n{settings}\n");
            let folder = tools(PluginFolder::new(), "10-bad", &settings);
            let server = ServerBuilder::new(folder.path())
                .enable_blackbox()
                .env("PLUGBOARD_BLACKBOX_TOOL_TIMEOUT", of_all)
                .env("PLUGBOARD_PLUGIN_LIMITS_TOOL_TIMEOUT", "20s")
                .start();
            let answer = invoke(&server, "bad").await;
            let (found, message, found_code) = error(&answer);
            assert_eq!((found, found_code), (*status, *code), "{settings}: {answer:?}");
            assert!(message.starts_with("The tool"), "{message}");
            assert_eq!(answer.body.as_object().unwrap().len(), 2, "{answer:?}");
            let limit = Duration::from_secs(1) + SLACK;
            assert!(answer.elapsed < limit, "{settings}: {:?}", answer.elapsed);
            if *code == "TOOL_TIMEOUT" {
                assert!(answer.elapsed > Duration::from_millis(990), "{:?}", answer.elapsed);
            }
            let log = server.wait_for_log(|line| line["error"] == *label);
            assert_eq!((&log["plugin"], &log["level"]), (&json!("10-bad"), &json!("WARN")));
        }
    }
}

/// What is no JSON, whoever wrote it.
#[tokio::test]
async fn a_result_that_is_no_json_is_not_passed_on() {
    let nan = "[config]\nresult = '{\"a\":NaN}'\n";
    for settings in [
        "",
        "[config]\nresult = ''\n",
        nan,
        "[config]\nresult = '{} {}'\n",
        "[config]\nresult = '['\n",
    ] {
        let folder =
            PluginFolder::new().with_guest("10-bad", "bad-tool").with_settings("10-bad", settings);
        let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
        let answer = invoke(&server, "bad").await;
        assert_eq!(error(&answer).2, "TOOL_FAILED", "{settings}");
        assert!(!answer.text.contains("no JSON"), "{answer:?}");
        server.wait_for_log(|line| line["error"] == "not_json");
    }
    // What is, goes as it stands.
    let odd = "[config]\nresult = ' { \"b\":1.50, \"a\":1e3,\t\"a\":\"\\u0041\" } '\n";
    let folder = PluginFolder::new().with_guest("10-bad", "bad-tool").with_settings("10-bad", odd);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let answer = invoke(&server, "bad").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text.trim(), "{ \"b\":1.50, \"a\":1e3,\t\"a\":\"\\u0041\" }");
}

#[tokio::test]
async fn an_unknown_tool_is_named_in_the_log_with_those_there_are() {
    let collector = Collector::start().await;
    let folder = tools(PluginFolder::new(), "10-a", "[config]\nnames = 'one, two'\n")
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &collector.settings(""));
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let long = "x".repeat(128);
    let names = ["three", "ONE", "one ", "one\u{0}", "../one", "line\nbreak\u{1b}[2J", &long];
    for name in names {
        let answer = invoke(&server, name).await;
        let (status, _, code) = error(&answer);
        assert_eq!((status, code), (404, "UNKNOWN_TOOL"), "{name}");
        assert!(!answer.text.contains("one"), "{answer:?}");
    }
    // What is no name at all.
    for name in ["", &*"x".repeat(129), &"x".repeat(100_000)] {
        let answer = invoke(&server, name).await;
        assert_eq!(answer.status, 400);
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("`toolName`") && message.len() < 200, "{message}");
    }
    let log = server.wait_for_log(|line| line["message"] == "no plugin knows this tool");
    assert_eq!((&log["level"], &log["known"]), (&json!("WARN"), &json!("one, two")));
    assert_eq!(log["call"], "call");
    assert!(log["tool"].as_str().unwrap().contains("three"), "{log}");
    let told = collector.wait_for(|told| told.len() >= names.len()).await;
    let outcome = json!({"error": "no plugin knows this tool"});
    assert!(told.iter().all(|it| it["detail"]["outcome"] == outcome), "{told:?}");
    // No tools at all.
    let server = ServerBuilder::new(PluginFolder::new().path()).enable_blackbox().start();
    assert_eq!(error(&invoke(&server, "one").await).2, "UNKNOWN_TOOL");
}

#[tokio::test]
async fn a_tools_own_error_is_for_the_agent() {
    let collector = Collector::start().await;
    let folder =
        tools(PluginFolder::new(), "10-error", "[config]\ndo = 'error'\nnames = 'error'\n");
    // The SDK's own word for what it was not told to do has no code.
    let folder = tools(folder, "20-other", "[config]\ndo = 'nonsense'\nnames = 'no-code'\n");
    let long = "[config]\ndo = 'long_error'\nbytes = 100000\ncode_bytes = 128\nnames = 'long'\n";
    let folder = tools(folder, "30-long", long)
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &collector.settings(""));
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let answer = invoke(&server, "error").await;
    let expected = json!({"error": "there is no such day", "errorCode": "NO_SUCH_DAY"});
    assert_eq!((answer.status, &answer.body), (200, &expected));
    let answer = invoke(&server, "no-code").await;
    assert_eq!(error(&answer), (200, "cannot do `nonsense`", "TOOL_ERROR"));
    // Of what is too long, the beginning.
    let answer = invoke(&server, "long").await;
    assert_eq!(error(&answer), (200, &*"x".repeat(4_096), &*"x".repeat(128)));
    let told = collector.wait_for(|told| told.len() >= 3).await;
    let outcomes: Vec<_> = told.iter().map(|it| &it["detail"]["outcome"]["error"]).collect();
    assert_eq!(outcomes[0], "NO_SUCH_DAY: there is no such day");
    assert_eq!(outcomes[1], "cannot do `nonsense`");
    assert_eq!(outcomes[2].as_str().unwrap().len(), 128 + 2 + 4_096);
    // An error is an answer, and no reason to set anything aside.
    for _ in 0..30 {
        assert_eq!(invoke(&server, "error").await.body, expected);
    }
    assert!(!server.log_text().contains("keeps failing"), "{}", server.log_text());
    let row = server.plugin_status("10-error").await["tools"].clone();
    assert_eq!((&row["declined"], &row["answered"]), (&json!(31), &json!(0)), "{row}");
    assert_eq!((&row["failed"], &row["breaker"]), (&json!(0), &json!("closed")), "{row}");
}

/// As much as a plugin may say at once.
#[tokio::test]
async fn a_large_result_is_passed_on() {
    for bytes in [60_000, 1_000_000] {
        let settings = format!("[config]\ndo = 'huge'\nbytes = {bytes}\nnames = 'huge'\n");
        let folder = tools(PluginFolder::new(), "10-huge", &settings);
        let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
        let answer = invoke(&server, "huge").await;
        assert_eq!((answer.status, answer.text.len()), (200, bytes + 2));
        assert!(answer.elapsed < SLACK, "{:?}", answer.elapsed);
    }
    // Nested as deep as a result may be.
    let folder = tools(PluginFolder::new(), "10-deep", "[config]\ndo = 'deep'\ndepth = 64\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    assert_eq!(invoke(&server, "echo").await.text, "[".repeat(64) + &"]".repeat(64));
}

/// Arguments are what the platform wrote, whatever that is.
#[tokio::test]
async fn arguments_of_any_kind_reach_the_tool() {
    let folder = tools(PluginFolder::new(), "10-echo", "");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    for arguments in [
        json!({}),
        json!({"date": "2025-10-25", "deep": [{"x": null}], "": "", "☎": "\u{0}\n\""}),
        json!([1, 2]),
        json!("text"),
        json!(1.5),
        json!(true),
    ] {
        let answer = server.post_blackbox(used("echo", "call", &arguments)).await;
        assert_eq!((answer.status, &answer.body["arguments"]), (200, &arguments));
        let body = json!({"toolName": "echo", "toolArguments": arguments, "callId": "c"});
        let answer = server.post_blackbox(body.to_string()).await;
        assert_eq!((answer.status, &answer.body["arguments"]), (200, &arguments));
    }
    // None are no reason to fail.
    for none in ["", ",\"arguments\":null", ",\"toolArguments\":null"] {
        let body = format!("{{\"toolName\":\"echo\",\"callId\":\"c\"{none}}}");
        let answer = server.post_blackbox(body).await;
        assert_eq!((answer.status, &answer.body["arguments"]), (200, &json!({})), "{none}");
    }
}
