//! Plugins that were not written in Rust: the samples in Python and JavaScript, and
//! a fixture guest in each. Where a language's tools could not be installed, its
//! tests are skipped.
//!
//! Compiling such a component takes seconds to a minute, so that it is done once, in
//! the first test that wants it, and the others start from its compile cache.

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

/// For components to be compiled on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// Between two looks at what is awaited for long.
const LOOK: Duration = Duration::from_millis(200);

/// `limits.budget`: for a machine that does other things as well.
const BUDGET: Duration = Duration::from_secs(18);

/// A plugin's time: an answer that comes too late would be that of the next plugin.
const TIME: &str = "\n[limits]\ntimeout = '8s'\n";

/// Where everything is on one file system, and what is left is found.
const TMP: &str = env!("CARGO_TARGET_TMPDIR");

/// Of the usual call.
const CALL: &str = "935652e3-7c59-4edc-b17f-9646a9c2a265";

/// A language and its plugins.
struct Language {
    /// The fixture guest.
    guest: &'static str,
    /// The sample, by the name that it is deployed by.
    sample: &'static str,
    /// What the fixture guest answers that tries to reach something.
    reached: &'static str,
    /// What has to be told of an exception that nobody expected.
    exception: &'static str,
    /// Where in the source the log says that it was.
    place: &'static str,
    /// A data folder that has them compiled.
    compiled: OnceCell<PathBuf>,
}

static PYTHON: Language = Language {
    guest: "python",
    sample: "80-python-languages",
    reached: "environment=0&arguments=0&files=0&network=0&processes=0&values=0",
    exception: "KeyError: 'the plan is missing'",
    place: "/python.py\", line 23, in decide",
    compiled: OnceCell::const_new(),
};

static JAVASCRIPT: Language = Language {
    guest: "javascript",
    sample: "85-javascript-skills",
    reached: "globals=0&network=0&values=0",
    exception: "cannot read property 'plan' of null",
    place: "at decide (/javascript.js:",
    compiled: OnceCell::const_new(),
};

impl Language {
    /// A folder with the fixture guest, before one that routes everything.
    fn fixture(&self) -> PluginFolder {
        let folder =
            PluginFolder::new().with_guest("10-guest", self.guest).with_settings("10-guest", TIME);
        folder.with_guest("99-good", ROUTING_GUEST)
    }

    /// A folder with the sample, with its settings changed, before one that routes
    /// everything.
    fn sampled(&self, change: impl Fn(String) -> String) -> PluginFolder {
        let name = self.sample;
        let settings = change(self.settings());
        PluginFolder::new()
            .with_sample(name, name)
            .with_settings(name, &settings)
            .with_guest("99-good", ROUTING_GUEST)
    }

    /// The sample's own settings, switched on.
    fn settings(&self) -> String {
        let (_, name) = self.sample.split_once('-').unwrap();
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins");
        let text = fs::read_to_string(format!("{root}/{name}/{name}.toml")).unwrap();
        assert!(text.contains("\nenabled = false"), "{text}");
        text.replace("\nenabled = false", "\nenabled = true") + TIME
    }

    /// A server on a folder and its data, with time.
    fn start(folder: &PluginFolder, data: &Path) -> Server {
        let budget = format!("{}s", BUDGET.as_secs());
        ServerBuilder::new(folder.path())
            .with_data_folder(data)
            .env("PLUGBOARD_LIMITS_BUDGET", &budget)
            .start()
    }

    /// A data folder with everything compiled, and a server on it.
    async fn serve(&self, folder: &PluginFolder) -> (TempDir, Server) {
        let data = self.data().await;
        let server = Self::start(folder, data.path());
        (data, server)
    }

    /// A data folder of one's own, with everything compiled.
    async fn data(&self) -> TempDir {
        let compiled = self.compiled.get_or_init(|| self.compile()).await;
        let data = TempDir::new_in(TMP).unwrap();
        let folder = data.path().join("compiled");
        fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        for file in fs::read_dir(compiled.join("compiled")).unwrap() {
            let file = file.unwrap();
            fs::hard_link(file.path(), folder.join(file.file_name())).unwrap();
        }
        data
    }

    /// Has fixture and sample deployed while calls are answered by another plugin,
    /// each of them in time, until both answer as well.
    async fn compile(&self) -> PathBuf {
        // Of the last run, nothing counts.
        let data = Path::new(TMP).join(format!("compiled-{}", self.guest));
        _ = fs::remove_dir_all(&data);
        fs::DirBuilder::new().mode(0o700).create(&data).unwrap();
        let folder = PluginFolder::new().with_guest("99-good", ROUTING_GUEST);
        let mut server = Self::start(&folder, &data);
        let begin = Instant::now();
        folder.replace_settings("10-guest", TIME);
        folder.replace_settings(self.sample, &self.settings());
        let _folder =
            folder.with_guest("10-guest", self.guest).with_sample(self.sample, self.sample);
        let mut slowest = Duration::ZERO;
        loop {
            let answer = server.post(call_initiated()).await;
            assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL), "{}", server.log_text());
            assert!(answer.elapsed < BUDGET, "{:?}", answer.elapsed);
            slowest = slowest.max(answer.elapsed);
            let listing = server.admin_get("/plugins").await.body;
            let rows = listing["plugins"].as_array().unwrap();
            assert!(rows.iter().all(|row| row["state"] == "active"), "{listing}");
            if rows.len() == 3 {
                break;
            }
            let waited = begin.elapsed();
            assert!(waited < PATIENCE, "after {waited:?}:\n{}", server.log_text());
            // The compiler stands back behind whoever keeps the processors busy.
            tokio::time::sleep(LOOK).await;
        }
        let (guest, took) = (self.guest, begin.elapsed());
        println!(
            "{guest}: live after {took:.1?}; meanwhile, the slowest answer took {slowest:.1?}"
        );
        server.stop();
        data
    }
}

/// What the call asks the fixture guest to do is the number that is dialled.
async fn dial(server: &Server, to: &str) -> Option<String> {
    let answer = server.post(call_initiated_for(CALL, to)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.elapsed < BUDGET, "{:?}", answer.elapsed);
    answer.sts_url().map(str::to_owned)
}

// === What holds for each ===

async fn reaches_nothing(language: &Language) {
    let folder = language.fixture();
    let (_data, server) = language.serve(&folder).await;
    let url = dial(&server, "reach").await;
    assert_eq!(url, Some(format!("ws://sts/?{}", language.reached)));
    assert_eq!(server.plugin_status("10-guest").await["failures"], 0);
    assert_eq!(dial(&server, "5001").await.as_deref(), Some(ROUTING_GUEST_URL));
}

async fn sees_nothing_of_other_calls(language: &Language) {
    let folder = language.fixture();
    let (_data, server) = language.serve(&folder).await;
    for _ in 0..5 {
        assert_eq!(dial(&server, "count").await.as_deref(), Some("ws://sts/?calls=1"));
    }
    let server = Arc::new(server);
    let mut asked = JoinSet::new();
    for _ in 0..20 {
        let server = Arc::clone(&server);
        asked.spawn(async move { dial(&server, "count").await });
    }
    for url in asked.join_all().await {
        assert_eq!(url.as_deref(), Some("ws://sts/?calls=1"));
    }
}

async fn is_explained_when_it_fails(language: &Language) {
    let folder = language.fixture();
    let (_data, server) = language.serve(&folder).await;
    for (to, message) in [("raise", language.exception), ("refuse", "the plan says no")] {
        for _ in 0..2 {
            assert_eq!(dial(&server, to).await.as_deref(), Some(ROUTING_GUEST_URL), "{to}");
        }
        let error = server.plugin_status("10-guest").await["last_error"].clone();
        assert_eq!(error["stage"], "call");
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
        let is_it = |line: &Value| line["plugin"] == "10-guest" && line["call"] == CALL;
        server.wait_for_log(|line| is_it(line) && contains(&line["message"], message));
    }
    let said = server.wait_for_log(|line| contains(&line["said"], language.place));
    assert_eq!((&said["plugin"], &said["call"]), (&json!("10-guest"), &json!(CALL)));
    assert_eq!(server.plugin_status("10-guest").await["failures"], 4);
    assert_eq!(dial(&server, "count").await.as_deref(), Some("ws://sts/?calls=1"));
}

async fn starts_again_without_compiling(language: &Language) {
    let folder = language.fixture();
    let data = language.data().await;
    let before = compiled(data.path());
    assert_eq!(before.len(), 3, "{before:?}");
    let begin = Instant::now();
    let server = Language::start(&folder, data.path());
    println!("{}: started again after {:.1?}", language.guest, begin.elapsed());
    assert_eq!(dial(&server, "count").await.as_deref(), Some("ws://sts/?calls=1"));
    // What is compiled is kept, by a rename.
    assert_eq!(compiled(data.path()), before);
}

/// The files of the compile cache, as they are on the disk.
fn compiled(data: &Path) -> Vec<u64> {
    let files = fs::read_dir(data.join("compiled")).unwrap();
    let mut files: Vec<u64> = files.map(|file| file.unwrap().metadata().unwrap().ino()).collect();
    files.sort_unstable();
    files
}

fn contains(text: &Value, part: &str) -> bool {
    text.as_str().is_some_and(|text| text.contains(part))
}

// === Python ===

#[tokio::test]
async fn python_reaches_nothing() {
    if is_built(PYTHON.guest) {
        reaches_nothing(&PYTHON).await;
    }
}

#[tokio::test]
async fn python_sees_nothing_of_other_calls() {
    if is_built(PYTHON.guest) {
        sees_nothing_of_other_calls(&PYTHON).await;
    }
}

#[tokio::test]
async fn an_exception_in_python_is_explained_and_harms_nobody() {
    if is_built(PYTHON.guest) {
        is_explained_when_it_fails(&PYTHON).await;
    }
}

#[tokio::test]
async fn python_starts_again_without_compiling() {
    if is_built(PYTHON.guest) {
        starts_again_without_compiling(&PYTHON).await;
    }
}

#[tokio::test]
async fn the_sample_in_python_answers_callers_in_their_language() {
    if !is_built(PYTHON.guest) {
        return;
    }
    let folder = PYTHON.sampled(|settings| settings);
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
        let asked = server.get_with_headers("/instructions", &[("X-AVR-UUID", CALL)]).await;
        assert_eq!(asked.body["system"], prompt);
        // What it decided may be used again.
        let again = server.post(from(caller)).await;
        assert_eq!(again.headers["cache-status"], "plugboard; hit");
        assert_eq!(again.sts_url(), Some(&*url));
    }
    for caller in ["2000", "anonymous", "", "+33123456789", "+39'); DROP TABLE calls"] {
        assert_eq!(server.post(from(caller)).await.sts_url(), Some(ROUTING_GUEST_URL), "{caller}");
    }
    assert_eq!(server.plugin_status(PYTHON.sample).await["failures"], 0);
    // What is wrong in its settings is said by their names.
    let wrong = PYTHON.sampled(|settings| settings.replace("languages.german", "languages.saxon"));
    let (_data, server) = PYTHON.serve(&wrong).await;
    assert_eq!(server.post(from("+4930123456")).await.sts_url(), Some(ROUTING_GUEST_URL));
    let error = server.plugin_status(PYTHON.sample).await["last_error"].clone();
    assert_eq!(error["label"], "guest_error");
    assert!(contains(&error["message"], "no [config.languages.german]"), "{error}");
}

// === JavaScript ===

#[tokio::test]
async fn javascript_reaches_nothing() {
    if is_built(JAVASCRIPT.guest) {
        reaches_nothing(&JAVASCRIPT).await;
    }
}

#[tokio::test]
async fn javascript_sees_nothing_of_other_calls() {
    if is_built(JAVASCRIPT.guest) {
        sees_nothing_of_other_calls(&JAVASCRIPT).await;
    }
}

#[tokio::test]
async fn an_exception_in_javascript_is_explained_and_harms_nobody() {
    if is_built(JAVASCRIPT.guest) {
        is_explained_when_it_fails(&JAVASCRIPT).await;
    }
}

#[tokio::test]
async fn javascript_starts_again_without_compiling() {
    if is_built(JAVASCRIPT.guest) {
        starts_again_without_compiling(&JAVASCRIPT).await;
    }
}

#[tokio::test]
async fn the_sample_in_javascript_finds_the_cheapest_service_with_the_skills() {
    if !is_built(JAVASCRIPT.guest) {
        return;
    }
    let sts = |host: &str| Some(format!("ws://{host}/?uuid={CALL}"));
    let (first, second) = ("avr-sts-gemini:6037", "avr-sts-ultravox:6031");
    let folder = JAVASCRIPT.sampled(|settings| settings);
    let (_data, server) = JAVASCRIPT.serve(&folder).await;
    assert_eq!(dial(&server, "5101").await, sts(first));
    assert_eq!(dial(&server, "5102").await, sts("avr-sts-openai:6030"));
    // Those that cost the same take turns, by a counter that outlives the calls.
    for expected in [second, first, second, first] {
        assert_eq!(dial(&server, "5103").await, sts(expected));
    }
    for number in ["5001", "", "toString", "__proto__"] {
        assert_eq!(dial(&server, number).await.as_deref(), Some(ROUTING_GUEST_URL), "{number}");
    }
    assert_eq!(server.plugin_status(JAVASCRIPT.sample).await["failures"], 0);
    // Without the grant, the first one takes all.
    let folder = JAVASCRIPT.sampled(|settings| settings.replace("kv = true", "kv = false"));
    let (_data, server) = JAVASCRIPT.serve(&folder).await;
    for _ in 0..2 {
        assert_eq!(dial(&server, "5103").await, sts(first));
    }
    // What is wrong in its settings is said, and where that was found out.
    let folder = JAVASCRIPT.sampled(|settings| settings.replace("config.numbers", "config.n"));
    let (_data, server) = JAVASCRIPT.serve(&folder).await;
    assert_eq!(dial(&server, "5101").await.as_deref(), Some(ROUTING_GUEST_URL));
    let error = server.plugin_status(JAVASCRIPT.sample).await["last_error"].clone();
    assert!(contains(&error["message"], "no config.numbers"), "{error}");
    server.wait_for_log(|line| contains(&line["said"], "at setting (/plugin.js:"));
}
