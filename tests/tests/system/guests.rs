//! One guest with one behaviour each, most of it bad: the caller gets the right
//! answer within the budget, the next call is unharmed, and the operator can
//! read what was wrong.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{
    PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, Server, ServerBuilder, call_initiated,
    guest_bytes,
};

/// `limits.budget`, of which nothing here may need more.
const BUDGET: Duration = Duration::from_secs(2);

const FALLBACK: &str = "ws://sts-fallback:6030/?uuid={id}";
const FALLBACK_URL: &str = "ws://sts-fallback:6030/?uuid=935652e3-7c59-4edc-b17f-9646a9c2a265";

fn serve(folder: &PluginFolder) -> Server {
    serve_within(folder, "1s")
}

/// With plugins that have this time to answer.
fn serve_within(folder: &PluginFolder, timeout: &str) -> Server {
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_FALLBACK_STS_URL", FALLBACK);
    setup.env("PLUGBOARD_PLUGIN_LIMITS_TIMEOUT", timeout).start()
}

/// A guest that fails when it is asked.
async fn fails(guest: &str, label: &str, message: &str) {
    let timeout = if label == "timeout" { "250ms" } else { "1s" };
    let folder = PluginFolder::new().with_guest("10-bad", guest);
    let server = serve_within(&folder, timeout);
    for round in 1..=3 {
        let answer = server.post(call_initiated()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, json!({"sts_url": FALLBACK_URL}), "round {round}");
        assert!(answer.elapsed < BUDGET, "{:?}", answer.elapsed);
    }
    let bad = server.plugin_status("10-bad").await;
    assert_eq!((&bad["calls"], &bad["failures"]), (&json!(3), &json!(3)), "{bad}");
    named(&bad["last_error"], "call", label, message);
    let line = server.wait_for_log(|line| line["plugin"] == "10-bad" && line["error"] == label);
    assert_eq!(line["call"], "935652e3-7c59-4edc-b17f-9646a9c2a265");

    // The same guest ahead of a good one harms nobody.
    let folder =
        PluginFolder::new().with_guest("10-bad", guest).with_guest("20-good", ROUTING_GUEST);
    let server = serve_within(&folder, timeout);
    for _ in 0..2 {
        let answer = server.post(call_initiated()).await;
        assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL));
        assert!(answer.elapsed < BUDGET, "{:?}", answer.elapsed);
    }
    assert_eq!(server.plugin_status("20-good").await["failures"], 0);
    assert_eq!(server.admin_get("/readyz").await.status, 200);
}

/// A file that is not loaded.
async fn is_refused(folder: PluginFolder, stage: &str, label: &str, message: &str) {
    let folder = folder.with_guest("20-good", ROUTING_GUEST);
    let server = serve(&folder);
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some(ROUTING_GUEST_URL));
    let bad = server.plugin_status("10-bad").await;
    assert_eq!(bad["state"], "broken", "{bad}");
    named(&bad["last_error"], stage, label, message);
    let line = server.wait_for_log(|line| line["error"] == label);
    assert!(line["message"].as_str().unwrap().contains(message), "{line}");
    let ready = server.admin_get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.body, json!({"status": "degraded", "broken": ["10-bad"]}));
}

fn named(error: &Value, stage: &str, label: &str, message: &str) {
    assert_eq!((&error["stage"], &error["label"]), (&json!(stage), &json!(label)), "{error}");
    assert!(error["message"].as_str().unwrap().contains(message), "{error}");
}

#[tokio::test]
async fn one_that_traps() {
    fails("traps", "trap", "unreachable").await;
}

#[tokio::test]
async fn one_that_spins_forever() {
    fails("spins", "timeout", "no answer within 250ms").await;
}

#[tokio::test]
async fn one_that_sleeps_in_the_host() {
    fails("sleeps", "timeout", "no answer within 250ms").await;
}

#[tokio::test]
async fn one_that_allocates_without_end() {
    fails("allocates", "memory", "33554432 bytes of memory").await;
}

#[tokio::test]
async fn one_that_recurses_without_end() {
    fails("recurses", "trap", "call stack exhausted").await;
}

#[tokio::test]
async fn one_that_returns_an_error() {
    fails("errs", "guest_error", "the CRM knows no avr").await;
}

#[tokio::test]
async fn one_that_returns_ten_megabytes() {
    fails("long-string", "too_much_data", "more than 1048576 bytes").await;
}

#[tokio::test]
async fn one_that_returns_an_invalid_url() {
    fails("bad-url", "bad_url", "its scheme is \"ftp\"").await;
}

#[tokio::test]
async fn one_that_names_an_unknown_field() {
    fails("unknown-name", "bad_url", "{no_such_field}, which this call does not have").await;
}

#[tokio::test]
async fn one_that_exits() {
    fails("exits", "trap", "it ended itself with exit code 1").await;
}

#[tokio::test]
async fn one_that_panics_says_why_in_the_log() {
    fails("panics", "trap", "the plan for avr is missing").await;
    let folder = PluginFolder::new().with_guest("10-bad", "panics");
    let server = serve(&folder);
    server.post(call_initiated()).await;
    let said = server.wait_for_log(|line| line["target"] == "plugboard::guest");
    assert_eq!((&said["level"], &said["plugin"]), (&json!("ERROR"), &json!("10-bad")));
    assert!(said["said"].as_str().unwrap().contains("the plan for avr is missing"), "{said}");
}

#[tokio::test]
async fn one_without_a_hook() {
    let folder = PluginFolder::new().with_guest("10-bad", "no-hook");
    is_refused(
        folder,
        "link",
        "no_hook",
        "expected at least one of: plugboard:plugin/router@0.1.0",
    )
    .await;
}

#[tokio::test]
async fn one_that_wants_an_unknown_import() {
    let folder = PluginFolder::new().with_guest("10-bad", "unknown-import");
    is_refused(folder, "link", "unknown_import", "`acme:crm/lookup@1.0.0`").await;
}

#[tokio::test]
async fn one_that_wants_an_unknown_function() {
    let folder = PluginFolder::new().with_guest("10-bad", "wrong-function");
    is_refused(folder, "link", "mismatch", "teleport").await;
}

#[tokio::test]
async fn one_of_another_contract() {
    let folder = PluginFolder::new().with_guest("10-bad", "old-contract");
    is_refused(folder, "link", "contract_version", "this host speaks plugboard:plugin@0.1.0").await;
}

#[tokio::test]
async fn a_core_module() {
    let folder = PluginFolder::new().with_guest("10-bad", "core-module");
    is_refused(folder, "compile", "core_module", "build for wasm32-wasip2").await;
}

#[tokio::test]
async fn an_empty_file() {
    is_refused(PluginFolder::new().with_bytes("10-bad", b""), "read", "empty", "the file is empty")
        .await;
}

#[tokio::test]
async fn a_file_that_is_not_wasm() {
    let folder = PluginFolder::new().with_bytes("10-bad", b"<html>404 not found</html>");
    is_refused(folder, "compile", "not_wasm", "this is not WebAssembly: it starts with").await;
}

#[tokio::test]
async fn a_truncated_file() {
    let bytes = guest_bytes(ROUTING_GUEST);
    for length in [9, bytes.len() / 2, bytes.len() - 1] {
        let folder = PluginFolder::new().with_bytes("10-bad", &bytes[..length]);
        is_refused(folder, "compile", "malformed", "damaged or unfinished component").await;
    }
}

#[tokio::test]
async fn a_file_with_a_tail_of_zeros() {
    let mut bytes = guest_bytes(ROUTING_GUEST);
    let half = bytes.len() / 2;
    bytes[half..].fill(0);
    let folder = PluginFolder::new().with_bytes("10-bad", &bytes);
    is_refused(folder, "compile", "malformed", "damaged or unfinished component").await;
}

/// A flipped bit can leave a valid program that does something else, so what is
/// promised is only this: the caller is answered, and the next plugin is
/// unharmed.
#[tokio::test]
async fn files_with_a_flipped_bit() {
    let bytes = guest_bytes(ROUTING_GUEST);
    let mut folder = PluginFolder::new().with_guest("90-good", ROUTING_GUEST);
    let places = 40;
    // Not asked about the usual call, or the first that still works would win; and if they
    // hang, all of them do so within the budget of another call.
    const SELDOM: &str = "[match]\nto = '7*'\n[limits]\ntimeout = '250ms'\n";
    for place in 0..places {
        let mut bytes = bytes.clone();
        let at = bytes.len() / places * place;
        bytes[at] ^= 1 << (place % 8);
        let name = format!("10-flipped-{place}");
        folder = folder.with_bytes(&name, &bytes).with_settings(&name, SELDOM);
    }
    let server = serve(&folder);
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some(ROUTING_GUEST_URL));
    let listing = server.admin_get("/plugins").await.body;
    let rows = listing["plugins"].as_array().unwrap();
    assert_eq!(rows.len(), places + 1);
    let broken = rows.iter().filter(|row| row["state"] == "broken");
    let broken: Vec<_> = broken.inspect(|row| assert_ne!(row["last_error"], Value::Null)).collect();
    assert!(broken.len() > places / 4, "only {} of {places} are refused", broken.len());
    // Those that loaded run into whatever they run into.
    let to_them = tests::call_initiated_for("935652e3-7c59-4edc-b17f-9646a9c2a265", "7000");
    for _ in 0..3 {
        let answer = server.post(to_them.clone()).await;
        assert_eq!(answer.status, 200);
        assert!(answer.elapsed < BUDGET + Duration::from_millis(500), "{:?}", answer.elapsed);
    }
}

#[tokio::test]
async fn one_that_needs_wasi_gets_clocks_and_nothing_else() {
    let folder = PluginFolder::new().with_guest("10-wasi", "wasi");
    // Something that it could see if it could see anything.
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
async fn one_without_wasi() {
    let folder = PluginFolder::new()
        .with_guest("10-plan", "without-wasi")
        .with_settings("10-plan", "[config]\n'50*' = 'ws://sts-fifty:6030/{to}'\n");
    let server = serve(&folder);
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some("ws://sts-fifty:6030/5001"));
}

#[tokio::test]
async fn nothing_of_one_call_is_seen_by_the_next() {
    let folder = PluginFolder::new().with_guest("10-counts", "counts");
    let server = serve(&folder);
    let client = tests::client();
    for _ in 0..50 {
        let answer = server.post_with_client(&client, &[], call_initiated()).await;
        assert_eq!(answer.sts_url(), Some("ws://sts/?calls=1"));
    }
}

#[tokio::test]
async fn one_that_talks_too_much_is_cut_short() {
    let folder = PluginFolder::new().with_guest("10-talks", "talks");
    let server = serve(&folder);
    assert_eq!(server.post(call_initiated()).await.sts_url(), Some(FALLBACK_URL));
    let dropped = server.wait_for_log(|line| line["message"] == "it logged too many lines");
    // 201 lines by log, 3 by printing; 100 are written.
    assert_eq!(dropped["dropped"], 104, "{dropped}");
    let text = server.log_text();
    let said: Vec<&str> = text.lines().filter(|line| line.contains("\"said\":")).collect();
    assert_eq!(said.len(), 100);
    // A line feed of the guest's makes no line of ours.
    assert!(!text.lines().any(|line| line.starts_with("2026 ERROR")), "{text}");
    assert_eq!(server.plugin_status("10-talks").await["failures"], 0);
}
