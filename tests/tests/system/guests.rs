//! Guests with one behaviour each, most of them faulty. The caller gets the right answer
//! within the time limit, the next call is unaffected, and the operator can read the error.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{
    PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, Server, ServerBuilder, call_initiated,
    guest_bytes,
};

/// `limits.decision_timeout`: upper limit of every answer in this module.
const DECISION_TIMEOUT: Duration = Duration::from_secs(2);

const FALLBACK: &str = "ws://sts-fallback:6030/?uuid={id}";
const FALLBACK_URL: &str = "ws://sts-fallback:6030/?uuid=935652e3-7c59-4edc-b17f-9646a9c2a265";

fn serve(folder: &PluginFolder) -> Server {
    serve_with_timeout(folder, "1s")
}

/// Starts a server with this time limit for plugins.
fn serve_with_timeout(folder: &PluginFolder, timeout: &str) -> Server {
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_FALLBACK_STS_URL", FALLBACK);
    setup.env("PLUGBOARD_PLUGIN_LIMITS_TIMEOUT", timeout).start()
}

/// Asserts that calls of a guest fail with this label and message, and that callers and other
/// plugins are unaffected.
async fn assert_call_fails(guest: &str, label: &str, message: &str) {
    let timeout = if label == "timeout" { "250ms" } else { "1s" };
    let folder = PluginFolder::new().with_guest("10-bad", guest);
    let server = serve_with_timeout(&folder, timeout);
    for round in 1..=3 {
        let answer = server.post(call_initiated()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, json!({"sts_url": FALLBACK_URL}), "round {round}");
        assert!(answer.elapsed < DECISION_TIMEOUT, "{:?}", answer.elapsed);
    }
    let bad = server.plugin_status("10-bad").await;
    assert_eq!((&bad["calls"], &bad["failures"]), (&json!(3), &json!(3)), "{bad}");
    assert_error(&bad["last_error"], "call", label, message);
    let line = server.wait_for_log(|line| line["plugin"] == "10-bad" && line["error"] == label);
    assert_eq!(line["call"], "935652e3-7c59-4edc-b17f-9646a9c2a265");

    // The same guest does not affect the good plugin after it.
    let folder =
        PluginFolder::new().with_guest("10-bad", guest).with_guest("20-good", ROUTING_GUEST);
    let server = serve_with_timeout(&folder, timeout);
    for _ in 0..2 {
        let answer = server.post(call_initiated()).await;
        assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL));
        assert!(answer.elapsed < DECISION_TIMEOUT, "{:?}", answer.elapsed);
    }
    assert_eq!(server.plugin_status("20-good").await["failures"], 0);
    assert_eq!(server.admin_get("/readyz").await.status, 200);
}

/// Asserts that `10-bad.wasm` fails to load with this error, and that the other plugin serves.
async fn assert_load_fails(folder: PluginFolder, stage: &str, label: &str, message: &str) {
    let folder = folder.with_guest("20-good", ROUTING_GUEST);
    let server = serve(&folder);
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some(ROUTING_GUEST_URL));
    let bad = server.plugin_status("10-bad").await;
    assert_eq!(bad["state"], "broken", "{bad}");
    assert_error(&bad["last_error"], stage, label, message);
    let line = server.wait_for_log(|line| line["error"] == label);
    assert!(line["message"].as_str().unwrap().contains(message), "{line}");
    let ready = server.admin_get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.body, json!({"status": "degraded", "broken": ["10-bad"]}));
}

fn assert_error(error: &Value, stage: &str, label: &str, message: &str) {
    assert_eq!((&error["stage"], &error["label"]), (&json!(stage), &json!(label)), "{error}");
    assert!(error["message"].as_str().unwrap().contains(message), "{error}");
}

#[tokio::test]
async fn call_fails_when_guest_traps() {
    assert_call_fails("traps", "trap", "unreachable").await;
}

#[tokio::test]
async fn call_times_out_when_guest_spins() {
    assert_call_fails("spins", "timeout", "no answer within 250ms").await;
}

#[tokio::test]
async fn call_times_out_when_guest_sleeps_in_host() {
    assert_call_fails("sleeps", "timeout", "no answer within 250ms").await;
}

#[tokio::test]
async fn call_fails_when_guest_exceeds_memory_limit() {
    assert_call_fails("allocates", "memory", "33554432 bytes of memory").await;
}

#[tokio::test]
async fn call_fails_when_guest_exhausts_stack() {
    assert_call_fails("recurses", "trap", "call stack exhausted").await;
}

#[tokio::test]
async fn call_fails_when_guest_returns_error() {
    assert_call_fails("errs", "guest_error", "the CRM knows no avr").await;
}

#[tokio::test]
async fn call_fails_when_guest_returns_ten_megabytes() {
    assert_call_fails("long-string", "too_much_data", "more than 1048576 bytes").await;
}

#[tokio::test]
async fn call_fails_when_guest_returns_invalid_url() {
    assert_call_fails("bad-url", "invalid_url", "its scheme is \"ftp\"").await;
}

#[tokio::test]
async fn call_fails_when_url_names_unknown_field() {
    assert_call_fails(
        "unknown-name",
        "invalid_url",
        "{no_such_field}, which this call does not have",
    )
    .await;
}

#[tokio::test]
async fn call_fails_when_guest_exits() {
    assert_call_fails("exits", "trap", "the plugin exited with code 1").await;
}

#[tokio::test]
async fn panic_message_of_guest_is_logged() {
    assert_call_fails("panics", "trap", "the plan for avr is missing").await;
    let folder = PluginFolder::new().with_guest("10-bad", "panics");
    let server = serve(&folder);
    server.post(call_initiated()).await;
    let entry = server.wait_for_log(|line| line["target"] == "plugboard::guest");
    assert_eq!((&entry["level"], &entry["plugin"]), (&json!("ERROR"), &json!("10-bad")));
    assert!(
        entry["plugin_message"].as_str().unwrap().contains("the plan for avr is missing"),
        "{entry}"
    );
}

#[tokio::test]
async fn load_fails_without_hook() {
    let folder = PluginFolder::new().with_guest("10-bad", "no-hook");
    assert_load_fails(
        folder,
        "link",
        "no_hook",
        "expected at least one of: plugboard:plugin/router@0.1.0",
    )
    .await;
}

#[tokio::test]
async fn load_fails_with_unknown_import() {
    let folder = PluginFolder::new().with_guest("10-bad", "unknown-import");
    assert_load_fails(folder, "link", "unknown_import", "`acme:crm/lookup@1.0.0`").await;
}

#[tokio::test]
async fn load_fails_with_unknown_function() {
    let folder = PluginFolder::new().with_guest("10-bad", "wrong-function");
    assert_load_fails(folder, "link", "contract_mismatch", "teleport").await;
}

#[tokio::test]
async fn load_fails_with_unsupported_contract_version() {
    let folder = PluginFolder::new().with_guest("10-bad", "old-contract");
    assert_load_fails(
        folder,
        "link",
        "contract_version",
        "this server supports plugboard:plugin@0.1.0",
    )
    .await;
}

#[tokio::test]
async fn load_fails_for_core_module() {
    let folder = PluginFolder::new().with_guest("10-bad", "core-module");
    assert_load_fails(folder, "compile", "core_module", "build for wasm32-wasip2").await;
}

#[tokio::test]
async fn load_fails_for_empty_file() {
    assert_load_fails(
        PluginFolder::new().with_bytes("10-bad", b""),
        "read",
        "empty",
        "the file is empty",
    )
    .await;
}

#[tokio::test]
async fn load_fails_for_file_other_than_wasm() {
    let folder = PluginFolder::new().with_bytes("10-bad", b"<html>404 not found</html>");
    assert_load_fails(folder, "compile", "not_wasm", "the file is not WebAssembly: it starts with")
        .await;
}

#[tokio::test]
async fn load_fails_for_truncated_file() {
    let bytes = guest_bytes(ROUTING_GUEST);
    for length in [9, bytes.len() / 2, bytes.len() - 1] {
        let folder = PluginFolder::new().with_bytes("10-bad", &bytes[..length]);
        assert_load_fails(folder, "compile", "malformed", "the component is damaged or incomplete")
            .await;
    }
}

#[tokio::test]
async fn load_fails_for_file_with_zeroed_tail() {
    let mut bytes = guest_bytes(ROUTING_GUEST);
    let half = bytes.len() / 2;
    bytes[half..].fill(0);
    let folder = PluginFolder::new().with_bytes("10-bad", &bytes);
    assert_load_fails(folder, "compile", "malformed", "the component is damaged or incomplete")
        .await;
}

/// A flipped bit can leave a valid program with another behaviour. The test therefore
/// asserts only that callers get an answer, and that the next plugin is unaffected.
#[tokio::test]
async fn files_with_flipped_bit_affect_no_other_plugin() {
    let bytes = guest_bytes(ROUTING_GUEST);
    let mut folder = PluginFolder::new().with_guest("90-good", ROUTING_GUEST);
    let file_count = 40;
    // The usual call does not match, or the first plugin that still works would decide it.
    // The short timeout keeps all plugins that hang within the time limit of another call.
    const RARE_MATCH: &str = "[match]\nto = '7*'\n[limits]\ntimeout = '250ms'\n";
    for nth in 0..file_count {
        let mut bytes = bytes.clone();
        let at = bytes.len() / file_count * nth;
        bytes[at] ^= 1 << (nth % 8);
        let name = format!("10-flipped-{nth}");
        folder = folder.with_bytes(&name, &bytes).with_settings(&name, RARE_MATCH);
    }
    let server = serve(&folder);
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some(ROUTING_GUEST_URL));
    let listing = server.admin_get("/plugins").await.body;
    let rows = listing["plugins"].as_array().unwrap();
    assert_eq!(rows.len(), file_count + 1);
    let broken = rows.iter().filter(|row| row["state"] == "broken");
    let broken: Vec<_> = broken.inspect(|row| assert_ne!(row["last_error"], Value::Null)).collect();
    assert!(broken.len() > file_count / 4, "only {} of {file_count} are rejected", broken.len());
    // The plugins that loaded may fail in any way.
    let matching_call = tests::call_initiated_for("935652e3-7c59-4edc-b17f-9646a9c2a265", "7000");
    for _ in 0..3 {
        let answer = server.post(matching_call.clone()).await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.elapsed < DECISION_TIMEOUT + Duration::from_millis(500),
            "{:?}",
            answer.elapsed
        );
    }
}

#[tokio::test]
async fn wasi_guest_gets_only_clocks() {
    let folder = PluginFolder::new().with_guest("10-wasi", "wasi");
    // A guest with access to the environment could read the secret.
    let server = ServerBuilder::new(folder.path()).env("WEBHOOK_SECRET", "s3cret").start();
    let client = tests::client();
    let answer = server
        .post_with_client(&client, &[("x-avr-webhook-secret", "s3cret")], call_initiated())
        .await;
    assert_eq!(
        answer.sts_url(),
        Some("ws://sts/?environment=0&arguments=0&files=0&network=0&clock=true")
    );
}

#[tokio::test]
async fn guest_without_wasi_routes_call() {
    let folder = PluginFolder::new()
        .with_guest("10-plan", "without-wasi")
        .with_settings("10-plan", "[config]\n'50*' = 'ws://sts-fifty:6030/{to}'\n");
    let server = serve(&folder);
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some("ws://sts-fifty:6030/5001"));
}

#[tokio::test]
async fn instance_state_is_not_visible_to_next_call() {
    let folder = PluginFolder::new().with_guest("10-counts", "counts");
    let server = serve(&folder);
    let client = tests::client();
    for _ in 0..50 {
        let answer = server.post_with_client(&client, &[], call_initiated()).await;
        assert_eq!(answer.sts_url(), Some("ws://sts/?calls=1"));
    }
}

#[tokio::test]
async fn log_lines_of_guest_beyond_limit_are_dropped() {
    let folder = PluginFolder::new().with_guest("10-talks", "talks");
    let server = serve(&folder);
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some(FALLBACK_URL));
    let dropped = server
        .wait_for_log(|line| line["message"] == "log limit of the call exceeded; lines dropped");
    // The guest logs 201 lines and prints 3; the server writes 100 of them.
    assert_eq!(dropped["dropped"], 104, "{dropped}");
    let text = server.log_text();
    let lines: Vec<&str> =
        text.lines().filter(|line| line.contains("\"plugin_message\":")).collect();
    assert_eq!(lines.len(), 100);
    // A line feed in the guest's text does not start a new log line.
    assert!(!text.lines().any(|line| line.starts_with("2026 ERROR")), "{text}");
    assert_eq!(server.plugin_status("10-talks").await["failures"], 0);
}
