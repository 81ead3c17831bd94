//! The harness of the whole-system tests: plugin folders, the real program on a
//! free port, and what it logs.
//!
//! `cargo xtask test` builds the program and the guests first.

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

/// The fixture guest that routes every call as a plugin should.
pub const ROUTING_GUEST: &str = "routes";

/// Where [`ROUTING_GUEST`] sends the call of [`call_initiated`].
pub const ROUTING_GUEST_URL: &str = "ws://sts-good:6030/?uuid=935652e3-7c59-4edc-b17f-9646a9c2a265";

/// A file of `tests/fixtures/avr`, as text.
pub fn fixture(name: &str) -> String {
    read_fixture("avr", name)
}

/// A file of `tests/fixtures/blackbox`, as text.
pub fn blackbox_fixture(name: &str) -> String {
    read_fixture("blackbox", name)
}

/// The same as a document, of this call.
pub fn blackbox_document(name: &str, call: &str) -> Value {
    let mut document: Value = serde_json::from_str(&blackbox_fixture(name)).unwrap();
    document["callId"] = json!(call);
    document
}

fn read_fixture(platform: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(platform).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The usual `call_initiated`: 2000 calls 5001. Each at another time, or it
/// would be taken for a delivery that comes again.
pub fn call_initiated() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut body: Value = serde_json::from_str(&fixture("call_initiated.json")).unwrap();
    body["timestamp"] = json!(format!("2026-02-10T21:56:42.{nth:09}Z"));
    body.to_string()
}

/// A `call_initiated` of another call.
pub fn call_initiated_for(uuid: &str, to: &str) -> String {
    let mut body: Value = serde_json::from_str(&call_initiated()).unwrap();
    body["uuid"] = json!(uuid);
    body["payload"]["to"] = json!(to);
    body.to_string()
}

/// An event of a call as AVR sends it; `nth` makes its time.
pub fn event(uuid: &str, kind: &str, nth: u32, payload: &Value) -> String {
    let (second, millisecond) = (nth / 1_000 % 60, nth % 1_000);
    let timestamp = format!("2026-02-10T22:{:02}:{second:02}.{millisecond:03}Z", nth / 60_000);
    json!({"uuid": uuid, "type": kind, "timestamp": timestamp, "payload": payload}).to_string()
}

/// What somebody said in a call.
pub fn user_transcription(uuid: &str, nth: u32, text: &str) -> String {
    event(uuid, "transcription", nth, &json!({"role": "user", "text": text}))
}

/// A client of its own connections, for plain HTTP.
pub fn client() -> reqwest::Client {
    client_with_timeout(Duration::from_secs(60))
}

/// A client that does not wait for longer.
pub fn client_with_timeout(timeout: Duration) -> reqwest::Client {
    // The program's reqwest has no provider of its own, and is the same crate. An
    // error says that there is one already.
    _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([]).timeout(timeout).build().unwrap()
}

/// The program.
pub fn program() -> PathBuf {
    built_file("release/plugboard")
}

/// Whether `cargo xtask test` could build this fixture guest, of a language whose tools
/// may be missing. It says SKIPPED if not.
pub fn is_built(guest: &str) -> bool {
    let path = target_folder().join(format!("guests/{guest}.wasm"));
    let built = path.exists();
    if !built {
        let missing = format!("{} is missing; `cargo xtask languages` says why", path.display());
        skip_or_fail_in_ci(&missing);
    }
    built
}

/// Says that something is not tested, past the harness, which shows what passing tests print
/// to nobody.
pub fn report_skipped(reason: &str) {
    _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

/// The same, if it is for want of something that can be installed: in continuous integration,
/// that is an error.
pub fn skip_or_fail_in_ci(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    report_skipped(reason);
}

/// A file that `cargo xtask test` built: `plugboard`, `guests/traps.wasm`.
fn built_file(name: &str) -> PathBuf {
    let path = target_folder().join(name);
    assert!(path.exists(), "{} is missing; run `cargo xtask test`", path.display());
    path
}

/// Where cargo puts what it builds.
fn target_folder() -> PathBuf {
    // target/release/deps/TEST → target
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().to_owned()
}
