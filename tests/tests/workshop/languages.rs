//! Plugins in other languages: the samples in Python and JavaScript, and a fixture guest
//! in each. The tests of a language are skipped if its tools are not installed.
//!
//! Compiling such a component takes seconds to a minute. Therefore the first test that needs
//! it compiles it once, and the other tests start from its compile cache.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, Server, ServerBuilder, call_initiated,
    call_initiated_for, is_built,
};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

/// Time limit for compiling the components. It is long because the machine may be busy.
const COMPILE_TIMEOUT: Duration = Duration::from_secs(1_200);

/// Interval between two checks of the plugins' states.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Value of `limits.decision_timeout`. It is long because the machine may be busy.
const DECISION_TIMEOUT: Duration = Duration::from_secs(18);

/// Settings with a long time limit of a plugin. On a timeout, the next plugin would answer.
const LIMITS: &str = "\n[limits]\ntimeout = '8s'\n";

/// Temporary folder of the tests, on one file system because of the hard links.
const TMP: &str = env!("CARGO_TARGET_TMPDIR");

/// Id of the usual call.
const CALL: &str = "935652e3-7c59-4edc-b17f-9646a9c2a265";

/// Language with its plugins and the expected results.
struct Language {
    /// Name of the fixture guest.
    guest: &'static str,
    /// Name under which the sample plugin is deployed.
    sample: &'static str,
    /// Report of the fixture guest after it has tried to access host resources.
    access_report: &'static str,
    /// Message of an uncaught exception in the fixture guest.
    exception: &'static str,
    /// Source location of the exception in the log.
    source_location: &'static str,
    /// Data folder whose compile cache contains the plugins.
    compiled_data: OnceCell<PathBuf>,
}

static PYTHON: Language = Language {
    guest: "python",
    sample: "80-python-languages",
    access_report: "environment=0&arguments=0&files=0&network=0&processes=0&values=0",
    exception: "KeyError: 'the plan is missing'",
    source_location: "/python.py\", line 23, in decide",
    compiled_data: OnceCell::const_new(),
};

static JAVASCRIPT: Language = Language {
    guest: "javascript",
    sample: "85-javascript-skills",
    access_report: "globals=0&network=0&values=0",
    exception: "cannot read property 'plan' of null",
    source_location: "at decide (/javascript.js:",
    compiled_data: OnceCell::const_new(),
};

impl Language {
    /// Creates a folder with the fixture guest and, after it, a guest that routes every call.
    fn fixture_folder(&self) -> PluginFolder {
        let folder = PluginFolder::new()
            .with_guest("10-guest", self.guest)
            .with_settings("10-guest", LIMITS);
        folder.with_guest("99-good", ROUTING_GUEST)
    }

    /// Creates a folder with the sample, whose settings `change` edits, and, after it, a guest
    /// that routes every call.
    fn sample_folder(&self, change: impl Fn(String) -> String) -> PluginFolder {
        let name = self.sample;
        let settings = change(self.sample_settings());
        PluginFolder::new()
            .with_sample(name, name)
            .with_settings(name, &settings)
            .with_guest("99-good", ROUTING_GUEST)
    }

    /// Returns the sample's own settings, with the plugin enabled.
    fn sample_settings(&self) -> String {
        let (_, name) = self.sample.split_once('-').unwrap();
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins");
        let text = fs::read_to_string(format!("{root}/{name}/{name}.toml")).unwrap();
        assert!(text.contains("\nenabled = false"), "{text}");
        text.replace("\nenabled = false", "\nenabled = true") + LIMITS
    }

    /// Starts a server with long time limits on a plugin folder and a data folder.
    fn start(folder: &PluginFolder, data: &Path) -> Server {
        let timeout = format!("{}s", DECISION_TIMEOUT.as_secs());
        ServerBuilder::new(folder.path())
            .with_data_folder(data)
            .env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", &timeout)
            .start()
    }

    /// Starts a server on a copy of the compiled data, and returns both.
    async fn serve(&self, folder: &PluginFolder) -> (TempDir, Server) {
        let data = self.copy_compiled_data().await;
        let server = Self::start(folder, data.path());
        (data, server)
    }

    /// Creates a data folder with links to the compiled files. Compiles them if necessary.
    async fn copy_compiled_data(&self) -> TempDir {
        let compiled = self.compiled_data.get_or_init(|| self.compile_plugins()).await;
        let data = TempDir::new_in(TMP).unwrap();
        let folder = data.path().join("compiled");
        fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        for file in fs::read_dir(compiled.join("compiled")).unwrap() {
            let file = file.unwrap();
            fs::hard_link(file.path(), folder.join(file.file_name())).unwrap();
        }
        data
    }

    /// Deploys the fixture guest and the sample, and waits until both are active. Meanwhile
    /// another plugin must answer each call in time. Returns the data folder.
    async fn compile_plugins(&self) -> PathBuf {
        // The compile cache of the previous test run must not be used.
        let data = Path::new(TMP).join(format!("compiled-{}", self.guest));
        _ = fs::remove_dir_all(&data);
        fs::DirBuilder::new().mode(0o700).create(&data).unwrap();
        let folder = PluginFolder::new().with_guest("99-good", ROUTING_GUEST);
        let mut server = Self::start(&folder, &data);
        let start = Instant::now();
        folder.replace_settings("10-guest", LIMITS);
        folder.replace_settings(self.sample, &self.sample_settings());
        let _folder =
            folder.with_guest("10-guest", self.guest).with_sample(self.sample, self.sample);
        let mut slowest = Duration::ZERO;
        loop {
            let answer = server.post(call_initiated()).await;
            assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL), "{}", server.log_text());
            assert!(answer.elapsed < DECISION_TIMEOUT, "{:?}", answer.elapsed);
            slowest = slowest.max(answer.elapsed);
            let listing = server.admin_get("/plugins").await.body;
            let rows = listing["plugins"].as_array().unwrap();
            assert!(rows.iter().all(|row| row["state"] == "active"), "{listing}");
            if rows.len() == 3 {
                break;
            }
            let waited = start.elapsed();
            assert!(waited < COMPILE_TIMEOUT, "after {waited:?}:\n{}", server.log_text());
            // The compiler runs at low priority, so the pause leaves CPU time for it.
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let (guest, duration) = (self.guest, start.elapsed());
        println!("{guest}: active after {duration:.1?}; slowest answer meanwhile: {slowest:.1?}");
        server.stop();
        data
    }
}

/// Posts a call to this number, which selects the behaviour of the fixture guest, and returns
/// the URL of the answer.
async fn dial(server: &Server, to: &str) -> Option<String> {
    let answer = server.post(call_initiated_for(CALL, to)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.elapsed < DECISION_TIMEOUT, "{:?}", answer.elapsed);
    answer.sts_url().map(str::to_owned)
}

// === Checks for each language ===

async fn assert_no_host_access(language: &Language) {
    let folder = language.fixture_folder();
    let (_data, server) = language.serve(&folder).await;
    let url = dial(&server, "reach").await;
    assert_eq!(url, Some(format!("ws://sts/?{}", language.access_report)));
    assert_eq!(server.plugin_status("10-guest").await["failures"], 0);
    assert_eq!(dial(&server, "5001").await.as_deref(), Some(ROUTING_GUEST_URL));
}

async fn assert_no_state_between_calls(language: &Language) {
    let folder = language.fixture_folder();
    let (_data, server) = language.serve(&folder).await;
    for _ in 0..5 {
        assert_eq!(dial(&server, "count").await.as_deref(), Some("ws://sts/?calls=1"));
    }
    let server = Arc::new(server);
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let server = Arc::clone(&server);
        calls.spawn(async move { dial(&server, "count").await });
    }
    for url in calls.join_all().await {
        assert_eq!(url.as_deref(), Some("ws://sts/?calls=1"));
    }
}

async fn assert_exception_is_reported(language: &Language) {
    let folder = language.fixture_folder();
    let (_data, server) = language.serve(&folder).await;
    for (to, message) in [("raise", language.exception), ("refuse", "the plan says no")] {
        for _ in 0..2 {
            assert_eq!(dial(&server, to).await.as_deref(), Some(ROUTING_GUEST_URL), "{to}");
        }
        let error = server.plugin_status("10-guest").await["last_error"].clone();
        assert_eq!(error["stage"], "call");
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
        let is_of_call = |line: &Value| line["plugin"] == "10-guest" && line["call"] == CALL;
        server.wait_for_log(|line| is_of_call(line) && contains_text(&line["message"], message));
    }
    let line = server
        .wait_for_log(|line| contains_text(&line["plugin_message"], language.source_location));
    assert_eq!((&line["plugin"], &line["call"]), (&json!("10-guest"), &json!(CALL)));
    assert_eq!(server.plugin_status("10-guest").await["failures"], 4);
    assert_eq!(dial(&server, "count").await.as_deref(), Some("ws://sts/?calls=1"));
}

async fn assert_restart_uses_compile_cache(language: &Language) {
    let folder = language.fixture_folder();
    let data = language.copy_compiled_data().await;
    let before = compiled_files(data.path());
    assert_eq!(before.len(), 3, "{before:?}");
    let start = Instant::now();
    let server = Language::start(&folder, data.path());
    println!("{}: restarted after {:.1?}", language.guest, start.elapsed());
    assert_eq!(dial(&server, "count").await.as_deref(), Some("ws://sts/?calls=1"));
    // A new compilation would replace a file by a rename, and change its inode number.
    assert_eq!(compiled_files(data.path()), before);
}

/// Returns the sorted inode numbers of the files in the compile cache.
fn compiled_files(data: &Path) -> Vec<u64> {
    let files = fs::read_dir(data.join("compiled")).unwrap();
    let mut files: Vec<u64> = files.map(|file| file.unwrap().metadata().unwrap().ino()).collect();
    files.sort_unstable();
    files
}

fn contains_text(text: &Value, part: &str) -> bool {
    text.as_str().is_some_and(|text| text.contains(part))
}

// === Plugins written in Python ===

#[tokio::test]
async fn python_plugin_cannot_access_host_resources() {
    if is_built(PYTHON.guest) {
        assert_no_host_access(&PYTHON).await;
    }
}

#[tokio::test]
async fn python_plugin_shares_no_state_between_calls() {
    if is_built(PYTHON.guest) {
        assert_no_state_between_calls(&PYTHON).await;
    }
}

#[tokio::test]
async fn python_exception_is_reported_and_next_plugin_decides() {
    if is_built(PYTHON.guest) {
        assert_exception_is_reported(&PYTHON).await;
    }
}

#[tokio::test]
async fn python_plugin_restarts_from_compile_cache() {
    if is_built(PYTHON.guest) {
        assert_restart_uses_compile_cache(&PYTHON).await;
    }
}

#[tokio::test]
async fn python_sample_selects_language_by_caller_number() {
    if !is_built(PYTHON.guest) {
        return;
    }
    let folder = PYTHON.sample_folder(|settings| settings);
    let (_data, server) = PYTHON.serve(&folder).await;
    let from = |from: &str| {
        let mut body: Value = serde_json::from_str(&call_initiated()).unwrap();
        body["payload"]["from"] = json!(from);
        body.to_string()
    };
    for (caller, sts, prompt) in [
        ("+39 02 1234567", "avr-sts-openai:6030", "Rispondi in italiano."),
        ("0041912345678", "avr-sts-openai:6030", "Rispondi in italiano."),
        ("+4930123456", "avr-sts-gemini:6037", "Antworte auf Deutsch."),
    ] {
        let url = format!("ws://{sts}/?uuid={CALL}");
        assert_eq!(server.post(from(caller)).await.sts_url(), Some(&*url), "{caller}");
        let instructions = server.get_with_headers("/instructions", &[("X-AVR-UUID", CALL)]).await;
        assert_eq!(instructions.body["system"], prompt);
        // The decision is cacheable, so an equal call gets it from the cache.
        let second = server.post(from(caller)).await;
        assert_eq!(second.headers["cache-status"], "plugboard; hit");
        assert_eq!(second.sts_url(), Some(&*url));
    }
    for caller in ["2000", "anonymous", "", "+33123456789", "+39'); DROP TABLE calls"] {
        assert_eq!(server.post(from(caller)).await.sts_url(), Some(ROUTING_GUEST_URL), "{caller}");
    }
    assert_eq!(server.plugin_status(PYTHON.sample).await["failures"], 0);
    // The error message names the missing setting.
    let folder =
        PYTHON.sample_folder(|settings| settings.replace("languages.german", "languages.saxon"));
    let (_data, server) = PYTHON.serve(&folder).await;
    assert_eq!(server.post(from("+4930123456")).await.sts_url(), Some(ROUTING_GUEST_URL));
    let error = server.plugin_status(PYTHON.sample).await["last_error"].clone();
    assert_eq!(error["label"], "guest_error");
    assert!(contains_text(&error["message"], "lack [config.languages.german]"), "{error}");
}

// === Plugins written in JavaScript ===

#[tokio::test]
async fn javascript_plugin_cannot_access_host_resources() {
    if is_built(JAVASCRIPT.guest) {
        assert_no_host_access(&JAVASCRIPT).await;
    }
}

#[tokio::test]
async fn javascript_plugin_shares_no_state_between_calls() {
    if is_built(JAVASCRIPT.guest) {
        assert_no_state_between_calls(&JAVASCRIPT).await;
    }
}

#[tokio::test]
async fn javascript_exception_is_reported_and_next_plugin_decides() {
    if is_built(JAVASCRIPT.guest) {
        assert_exception_is_reported(&JAVASCRIPT).await;
    }
}

#[tokio::test]
async fn javascript_plugin_restarts_from_compile_cache() {
    if is_built(JAVASCRIPT.guest) {
        assert_restart_uses_compile_cache(&JAVASCRIPT).await;
    }
}

#[tokio::test]
async fn javascript_sample_selects_cheapest_service_with_skills() {
    if !is_built(JAVASCRIPT.guest) {
        return;
    }
    let sts = |host: &str| Some(format!("ws://{host}/?uuid={CALL}"));
    let (first, second) = ("avr-sts-gemini:6037", "avr-sts-ultravox:6031");
    let folder = JAVASCRIPT.sample_folder(|settings| settings);
    let (_data, server) = JAVASCRIPT.serve(&folder).await;
    assert_eq!(dial(&server, "5101").await, sts(first));
    assert_eq!(dial(&server, "5102").await, sts("avr-sts-openai:6030"));
    // Services of equal cost alternate, by a counter in the key-value store.
    for expected in [second, first, second, first] {
        assert_eq!(dial(&server, "5103").await, sts(expected));
    }
    for number in ["5001", "", "toString", "__proto__"] {
        assert_eq!(dial(&server, number).await.as_deref(), Some(ROUTING_GUEST_URL), "{number}");
    }
    assert_eq!(server.plugin_status(JAVASCRIPT.sample).await["failures"], 0);
    // Without the grant, the first service takes all calls.
    let folder = JAVASCRIPT.sample_folder(|settings| settings.replace("kv = true", "kv = false"));
    let (_data, server) = JAVASCRIPT.serve(&folder).await;
    for _ in 0..2 {
        assert_eq!(dial(&server, "5103").await, sts(first));
    }
    // The error message names the missing setting, and the log has the source location.
    let folder =
        JAVASCRIPT.sample_folder(|settings| settings.replace("config.numbers", "config.n"));
    let (_data, server) = JAVASCRIPT.serve(&folder).await;
    assert_eq!(dial(&server, "5101").await.as_deref(), Some(ROUTING_GUEST_URL));
    let error = server.plugin_status(JAVASCRIPT.sample).await["last_error"].clone();
    assert!(contains_text(&error["message"], "lack config.numbers"), "{error}");
    server.wait_for_log(|line| contains_text(&line["plugin_message"], "at setting (/plugin.js:"));
}
