//! Harness of the whole-system tests: plugin folders, the real program on a free port,
//! and its log.
//!
//! The tests need the program and the guests, which `cargo xtask test` builds first.

mod browser;
mod collector;
mod command;
mod folder;
mod golden;
mod server;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

pub use self::browser::Browser;
pub use self::collector::{Collector, count_distinct};
pub use self::command::{CommandOutput, run_plugboard};
pub use self::folder::{PluginFolder, guest_bytes, guest_names};
pub use self::golden::assert_golden;
pub use self::server::{Server, ServerBuilder, ServerResponse};

/// Fixture guest that routes every call without any fault.
pub const ROUTING_GUEST: &str = "routes";

/// URL to which [`ROUTING_GUEST`] routes the call of [`call_initiated`].
pub const ROUTING_GUEST_URL: &str = "ws://sts-good:6030/?uuid=935652e3-7c59-4edc-b17f-9646a9c2a265";

/// Returns the text of a file in `tests/fixtures/avr`.
pub fn fixture(name: &str) -> String {
    read_fixture("avr", name)
}

/// Returns the text of a file in `tests/fixtures/blackbox`.
pub fn blackbox_fixture(name: &str) -> String {
    read_fixture("blackbox", name)
}

/// Returns a file in `tests/fixtures/blackbox` as a document of this call.
pub fn blackbox_document(name: &str, call: &str) -> Value {
    let mut document: Value = serde_json::from_str(&blackbox_fixture(name)).unwrap();
    document["callId"] = json!(call);
    document
}

fn read_fixture(platform: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(platform).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the usual `call_initiated`: 2000 calls 5001. Each has another timestamp, because
/// the server would treat an equal one as a redelivery.
pub fn call_initiated() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut body: Value = serde_json::from_str(&fixture("call_initiated.json")).unwrap();
    body["timestamp"] = json!(format!("2026-02-10T21:56:42.{nth:09}Z"));
    body.to_string()
}

/// Returns a `call_initiated` of another call.
pub fn call_initiated_for(uuid: &str, to: &str) -> String {
    let mut body: Value = serde_json::from_str(&call_initiated()).unwrap();
    body["uuid"] = json!(uuid);
    body["payload"]["to"] = json!(to);
    body.to_string()
}

/// Returns an event of a call in AVR's format. `nth` is its time in milliseconds.
pub fn event(uuid: &str, kind: &str, nth: u32, payload: &Value) -> String {
    let (second, millisecond) = (nth / 1_000 % 60, nth % 1_000);
    let timestamp = format!("2026-02-10T22:{:02}:{second:02}.{millisecond:03}Z", nth / 60_000);
    json!({"uuid": uuid, "type": kind, "timestamp": timestamp, "payload": payload}).to_string()
}

/// Returns a transcription event with a text of the caller.
pub fn user_transcription(uuid: &str, nth: u32, text: &str) -> String {
    event(uuid, "transcription", nth, &json!({"role": "user", "text": text}))
}

/// Returns a client for plain HTTP, with its own connections and a time limit of 60 s.
pub fn client() -> reqwest::Client {
    client_with_timeout(Duration::from_secs(60))
}

/// Returns a client for plain HTTP with this time limit for each request.
pub fn client_with_timeout(timeout: Duration) -> reqwest::Client {
    // reqwest is built without a TLS provider, as in the program. An error means that a
    // provider is already installed.
    _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([]).timeout(timeout).build().unwrap()
}

/// Returns the path of the program.
pub fn program() -> PathBuf {
    built_file("release/plugboard")
}

/// Returns the path of the SDK's package for a registry.
pub fn packaged_sdk() -> PathBuf {
    built_file(concat!("package/plugboard-sdk-", env!("CARGO_PKG_VERSION"), ".crate"))
}

/// Returns whether this fixture guest was built. The tools of its language may be missing;
/// the function then reports a skipped test.
pub fn is_built(guest: &str) -> bool {
    let path = target_folder().join(format!("guests/{guest}.wasm"));
    let is_built = path.exists();
    if !is_built {
        let missing =
            format!("{} is missing; run `cargo xtask languages` for the reason", path.display());
        skip_or_fail_in_ci(&missing);
    }
    is_built
}

/// Reports a skipped test on the standard error. It bypasses the test harness, which hides
/// the output of tests that pass.
pub fn report_skipped(reason: &str) {
    _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

/// Reports a test that is skipped because of a missing program. Panics in continuous
/// integration, where all programs are installed.
pub fn skip_or_fail_in_ci(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    report_skipped(reason);
}

/// Returns the path of a file that `cargo xtask test` built, such as `guests/traps.wasm`.
fn built_file(name: &str) -> PathBuf {
    let path = target_folder().join(name);
    assert!(path.exists(), "{} is missing; run `cargo xtask test`", path.display());
    path
}

/// Returns cargo's target folder.
fn target_folder() -> PathBuf {
    // The test is at `target/release/deps/TEST`.
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_owned()
}
