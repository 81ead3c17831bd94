//! Tools that voice agents use during a call. Each request gets a usable answer in time,
//! also when the plugin fails.

mod appointments;
mod cache;
mod chain;
mod load;

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Collector, PluginFolder, Server, ServerBuilder, ServerResponse, blackbox_document};

/// Tolerance of an answer's time beyond the time limit of its plugin.
const SLACK: Duration = Duration::from_secs(2);

/// Returns a request for a tool in a call, with arguments.
fn tool_request(tool: &str, call: &str, arguments: &Value) -> String {
    let mut document = blackbox_document("tool.json", call);
    document["toolName"] = json!(tool);
    document["arguments"] = arguments.clone();
    document.to_string()
}

/// Requests a tool in the usual call, with the usual arguments.
async fn invoke(server: &Server, tool: &str) -> ServerResponse {
    server.post_blackbox(tool_request(tool, "call", &json!({"n": 1}))).await
}

/// Adds the fixture guest `tools` with these settings, under this name.
fn tools(folder: PluginFolder, name: &str, settings: &str) -> PluginFolder {
    folder.with_guest(name, "tools").with_settings(name, settings)
}

/// Returns status, error text and error code of an answer, which must have both.
fn error(answer: &ServerResponse) -> (u16, &str, &str) {
    let text = |name: &str| {
        let text = answer.body[name].as_str();
        text.unwrap_or_else(|| panic!("no `{name}`: {answer:?}"))
    };
    (answer.status, text("error"), text("errorCode"))
}

/// Failures: settings of the plugin, status and code of the answer, and the error label in
/// the log.
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

/// The time limit of the plugin is shorter than that of the platform, and then longer.
#[tokio::test]
async fn failed_tool_returns_error_in_time() {
    for (plugin_limit, platform_limit) in [("1s", "20s"), ("20s", "1s")] {
        for (settings, status, code, label) in FAILURES {
            let settings = format!(
                "[limits]\ntool_timeout = '{plugin_limit}'\n[config]\nnames = 'bad'\n{settings}\n"
            );
            let folder = tools(PluginFolder::new(), "10-bad", &settings);
            let server = ServerBuilder::new(folder.path())
                .enable_blackbox()
                .env("PLUGBOARD_BLACKBOX_TOOL_TIMEOUT", platform_limit)
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

/// A result that is not JSON never reaches the agent.
#[tokio::test]
async fn tool_result_is_rejected_when_not_json() {
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
    // A valid result is passed on unchanged.
    let odd = "[config]\nresult = ' { \"b\":1.50, \"a\":1e3,\t\"a\":\"\\u0041\" } '\n";
    let folder = PluginFolder::new().with_guest("10-bad", "bad-tool").with_settings("10-bad", odd);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let answer = invoke(&server, "bad").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text.trim(), "{ \"b\":1.50, \"a\":1e3,\t\"a\":\"\\u0041\" }");
}

#[tokio::test]
async fn unknown_tool_is_logged_with_known_tools() {
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
    // These texts are not names of tools.
    for name in ["", &*"x".repeat(129), &"x".repeat(100_000)] {
        let answer = invoke(&server, name).await;
        assert_eq!(answer.status, 400);
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("`toolName`") && message.len() < 200, "{message}");
    }
    let log = server.wait_for_log(|line| line["message"] == "unknown tool");
    assert_eq!((&log["level"], &log["known"]), (&json!("WARN"), &json!("one, two")));
    assert_eq!(log["call"], "call");
    assert!(log["tool"].as_str().unwrap().contains("three"), "{log}");
    let events = collector.wait_for(|events| events.len() >= names.len()).await;
    let outcome = json!({"error": "unknown tool"});
    assert!(events.iter().all(|it| it["detail"]["outcome"] == outcome), "{events:?}");
    // The answer is the same without any tools.
    let server = ServerBuilder::new(PluginFolder::new().path()).enable_blackbox().start();
    assert_eq!(error(&invoke(&server, "one").await).2, "UNKNOWN_TOOL");
}

#[tokio::test]
async fn tool_error_reaches_agent() {
    let collector = Collector::start().await;
    let folder =
        tools(PluginFolder::new(), "10-error", "[config]\ndo = 'error'\nnames = 'error'\n");
    // The error for an unknown `do` has no code.
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
    // A long error text is truncated.
    let answer = invoke(&server, "long").await;
    assert_eq!(error(&answer), (200, &*"x".repeat(4_096), &*"x".repeat(128)));
    let events = collector.wait_for(|events| events.len() >= 3).await;
    let outcomes: Vec<_> = events.iter().map(|it| &it["detail"]["outcome"]["error"]).collect();
    assert_eq!(outcomes[0], "NO_SUCH_DAY: there is no such day");
    assert_eq!(outcomes[1], "cannot do `nonsense`");
    assert_eq!(outcomes[2].as_str().unwrap().len(), 128 + 2 + 4_096);
    // An error is an answer, so the circuit breaker stays closed.
    for _ in 0..30 {
        assert_eq!(invoke(&server, "error").await.body, expected);
    }
    assert!(!server.log_text().contains("circuit breaker opened"), "{}", server.log_text());
    let row = server.plugin_status("10-error").await["tools"].clone();
    assert_eq!((&row["declined"], &row["answered"]), (&json!(31), &json!(0)), "{row}");
    assert_eq!((&row["failed"], &row["breaker"]), (&json!(0), &json!("closed")), "{row}");
}

/// Results up to the maximum size of a plugin's answer.
#[tokio::test]
async fn large_tool_result_is_passed_on() {
    for bytes in [60_000, 1_000_000] {
        let settings = format!("[config]\ndo = 'huge'\nbytes = {bytes}\nnames = 'huge'\n");
        let folder = tools(PluginFolder::new(), "10-huge", &settings);
        let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
        let answer = invoke(&server, "huge").await;
        assert_eq!((answer.status, answer.text.len()), (200, bytes + 2));
        assert!(answer.elapsed < SLACK, "{:?}", answer.elapsed);
    }
    // This result has the maximum depth.
    let folder = tools(PluginFolder::new(), "10-deep", "[config]\ndo = 'deep'\ndepth = 64\n");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    assert_eq!(invoke(&server, "echo").await.text, "[".repeat(64) + &"]".repeat(64));
}

/// Arguments can be any JSON value that the platform sends.
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
        let answer = server.post_blackbox(tool_request("echo", "call", &arguments)).await;
        assert_eq!((answer.status, &answer.body["arguments"]), (200, &arguments));
        let body = json!({"toolName": "echo", "toolArguments": arguments, "callId": "c"});
        let answer = server.post_blackbox(body.to_string()).await;
        assert_eq!((answer.status, &answer.body["arguments"]), (200, &arguments));
    }
    // Absent arguments become an empty object.
    for absent in ["", ",\"arguments\":null", ",\"toolArguments\":null"] {
        let body = format!("{{\"toolName\":\"echo\",\"callId\":\"c\"{absent}}}");
        let answer = server.post_blackbox(body).await;
        assert_eq!((answer.status, &answer.body["arguments"]), (200, &json!({})), "{absent}");
    }
}
