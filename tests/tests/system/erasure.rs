//! Erasure of a call, with and without a running server: its events are not delivered, and
//! neither memory nor files have its data. Other calls keep their data.

mod concurrency;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    Collector, PluginFolder, Server, ServerBuilder, call_initiated_for, program, user_transcription,
};

/// Time limit of each wait.
const PATIENCE: Duration = Duration::from_secs(120);

/// Texts in the erased call and in another call.
const SECRET: &str = "Marker-of-what-the-caller-said";
const OTHER: &str = "Marker-of-another-call";

/// Folder with the fixture guest `observer`, which posts events to the collector.
fn folder_with_observer(collector: &Collector, more: &str) -> PluginFolder {
    let settings = collector.settings(more);
    PluginFolder::new()
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &settings)
}

/// Settings of an observer that does this with each event.
fn observer_action(action: &str) -> String {
    format!("[config]\ndo = '{action}'\n")
}

async fn post(server: &Server, body: String) {
    let answer = server.post(body).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"status": "ok"})));
}

/// Runs `plugboard erase`, and returns its exit status and output.
fn run_erase(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(program());
    let command = command.arg("erase").args(arguments).env_clear();
    // The working folder has no plugboard.toml.
    let folder = TempDir::new().unwrap();
    let output = command.envs(environment.iter().copied()).current_dir(folder.path()).output();
    let Output { status, stdout, stderr } = output.unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// Returns whether a file of the folder contains the text. Another process reads the
/// files, because the test may have one of them open.
fn is_readable(folder: &Path, text: &str) -> bool {
    let mut grep = Command::new("grep");
    grep.args(["-rqaF", "--", text]).arg(folder).status().unwrap().success()
}

/// Starts a server with a long backoff after failures and a short retention.
fn start_with_long_backoff(folder: &PluginFolder, data: &Path) -> Server {
    ServerBuilder::new(folder.path())
        .with_data_folder(data)
        .env("PLUGBOARD_EVENTS_INITIAL_BACKOFF", "60s")
        .env("PLUGBOARD_JOURNAL_RETENTION", "1s")
        .start()
}

/// Returns the number of delivered events of a call.
fn delivered_count(collector: &Collector, call: &str) -> usize {
    collector.event_kinds(call).len()
}

async fn wait_for_delivered(collector: &Collector, call: &str, count: usize) {
    let of_call = |events: &[Value]| events.iter().filter(|event| event["call"] == call).count();
    collector.wait_for(|events| of_call(events) >= count).await;
}

/// Waits until the observer has no lag and retention has emptied the journal.
async fn wait_until_journal_is_empty(server: &Server, data: &Path) {
    let deadline = Instant::now() + PATIENCE;
    let db = rusqlite::Connection::open(data.join("plugboard.db")).unwrap();
    let left = || db.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, u64>(0));
    loop {
        let lag =
            server.metric_value("plugboard_observer_lag_events{plugin=\"50-observer\"}").await;
        if (lag, left().unwrap()) == (Some(0), 0) {
            return;
        }
        assert!(Instant::now() < deadline, "events are pending:\n{}", server.metrics_text().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_server_erases_all_data_of_call() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    // Plugins with a prompt, with an observer, and with a stored transcript.
    let folder = folder_with_observer(&collector, "")
        .with_guest("10-full", "full")
        .with_settings("10-full", "[grants]\nkv = true\n")
        .with_sample("60-transcript-log", "60-transcript-log")
        .with_settings("60-transcript-log", "[config]\nurl = 'http://x/'\n[grants]\nkv = true\n");
    let start = || ServerBuilder::new(folder.path()).with_data_folder(data.path()).start();
    let mut server = start();
    for (call, text) in [("a/1 ü", SECRET), ("b", OTHER)] {
        assert!(server.post(call_initiated_for(call, "5001")).await.sts_url().is_some());
        for nth in 0..3 {
            post(&server, user_transcription(call, nth, text)).await;
        }
        wait_for_delivered(&collector, call, 5).await;
    }
    let keeps = |row: &Value| row["events"]["delivered"].as_u64() >= Some(10);
    server.wait_for_plugin("60-transcript-log", keeps).await;
    assert!(is_readable(data.path(), SECRET) && is_readable(data.path(), OTHER));
    let prompt = async |server: &Server, call| {
        server.get_with_headers("/instructions", &[("X-AVR-UUID", call)]).await.status
    };
    assert_eq!(prompt(&server, "b").await, 200);

    let at = server.admin_address().to_owned();
    let erased = run_erase(&["a/1 ü", "--admin", &at], &[]);
    let expected = "erased 5 events, 0 dead letters, 1 call context, 1 plugin value\n".to_owned();
    assert_eq!(erased, (Some(0), expected));
    assert!(!is_readable(data.path(), SECRET), "it can be read while the server runs");
    assert!(is_readable(data.path(), OTHER));
    let line = server.wait_for_log(|line| line["message"] == "call erased");
    assert_eq!((&line["level"], &line["call"]), (&json!("INFO"), &json!("a/1 ü")));
    assert_eq!((&line["events"], &line["values"]), (&json!(5), &json!(1)));
    assert_eq!(run_erase(&["a/1 ü", "--admin", &at], &[]).1, "nothing is stored about this call\n");

    // A later event is delivered, without data from before the erasure.
    post(&server, user_transcription("a/1 ü", 9, "again")).await;
    wait_for_delivered(&collector, "a/1 ü", 6).await;
    let later = collector.events().pop().unwrap();
    assert_eq!((&later["from"], &later["detail"]["text"]), (&Value::Null, &json!("again")));
    // A redelivery of an erased event is not stored.
    post(&server, user_transcription("a/1 ü", 1, SECRET)).await;
    assert!(!is_readable(data.path(), SECRET));

    // The other call keeps its data.
    assert_eq!(prompt(&server, "b").await, 200);
    post(&server, user_transcription("b", 9, "more")).await;
    wait_for_delivered(&collector, "b", 6).await;
    let erased = server.admin_delete("/calls/b", &[]).await;
    assert_eq!(erased.status, 200);
    assert_eq!(erased.body, json!({"events": 6, "dead_letters": 0, "calls": 1, "values": 1}));
    assert_eq!(prompt(&server, "b").await, 404);
    server.kill();
    let server = start();
    assert_eq!(prompt(&server, "b").await, 404);
    assert!(!is_readable(data.path(), SECRET) && !is_readable(data.path(), OTHER));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_events_of_failing_observer_are_erased() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "")
        .with_settings("50-observer", &observer_action("error"));
    let start = || start_with_long_backoff(&folder, data.path());
    let mut server = start();
    for nth in 0..5 {
        for call in ["a", "b", "c"] {
            post(&server, user_transcription(call, nth, SECRET)).await;
        }
    }
    let failed = |row: &Value| row["events"]["failed"].as_u64() >= Some(3);
    server.wait_for_plugin("50-observer", failed).await;
    let erased = server.admin_delete("/calls/a", &[]).await;
    assert_eq!(erased.body["events"], 5, "{erased:?}");
    // The last events of the journal are erased as well.
    let erased = server.admin_delete("/calls/c", &[]).await;
    assert_eq!(erased.body["events"], 5, "{erased:?}");
    let lag = "plugboard_observer_lag_events{plugin=\"50-observer\"}";
    let deadline = Instant::now() + PATIENCE;
    while server.metric_value(lag).await != Some(5) {
        assert!(Instant::now() < deadline, "the erased events still count as lag");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // New settings end the backoff, and pending events are delivered at once.
    folder.replace_settings("50-observer", &collector.settings(""));
    server.reload().await;
    wait_for_delivered(&collector, "b", 5).await;
    post(&server, user_transcription("a", 7, "later")).await;
    wait_for_delivered(&collector, "a", 1).await;
    wait_until_journal_is_empty(&server, data.path()).await;
    server.stop();
    let server = start();
    post(&server, user_transcription("b", 7, "later")).await;
    wait_for_delivered(&collector, "b", 6).await;
    assert_eq!((delivered_count(&collector, "a"), delivered_count(&collector, "c")), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erasure_waits_for_delivery_in_progress() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    // The delivery times out, and its event would become a dead letter.
    let settings = observer_action("sleep") + "[limits]\nevent_timeout = '5s'\n";
    let folder = folder_with_observer(&collector, "").with_settings("50-observer", &settings);
    let server = ServerBuilder::new(folder.path())
        .with_data_folder(data.path())
        .env("PLUGBOARD_EVENTS_MAX_ATTEMPTS", "1")
        .env("PLUGBOARD_JOURNAL_RETENTION", "1s")
        .start();
    for nth in 0..3 {
        post(&server, user_transcription("a", nth, SECRET)).await;
    }
    server.wait_for_guests(1).await;
    let erased = server.admin_delete("/calls/a", &[]).await;
    assert_eq!((erased.status, &erased.body["events"]), (200, &json!(3)));
    let failed = server.plugin_status("50-observer").await["events"]["failed"].clone();
    assert_eq!(failed, 1, "erasure did not wait for the delivery, or another one followed");
    wait_until_journal_is_empty(&server, data.path()).await;
    let dead = server.admin_get("/events/dead").await.body;
    assert_eq!(dead, json!({"total": [], "dead_letters": []}));
    assert_eq!(server.plugin_status("50-observer").await["events"]["failed"], 1);
    assert!(!is_readable(data.path(), SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_erased_with_their_events() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "")
        .with_settings("50-observer", &observer_action("error"));
    let server = ServerBuilder::new(folder.path())
        .with_data_folder(data.path())
        .env("PLUGBOARD_EVENTS_MAX_ATTEMPTS", "1")
        .env("PLUGBOARD_JOURNAL_RETENTION", "1s")
        .start();
    post(&server, user_transcription("a", 1, SECRET)).await;
    post(&server, user_transcription("b", 1, OTHER)).await;
    let dead = |row: &Value| row["events"]["dead_letters"].as_u64() == Some(2);
    server.wait_for_plugin("50-observer", dead).await;
    // Dead letters outlive their events.
    wait_until_journal_is_empty(&server, data.path()).await;
    assert!(is_readable(data.path(), SECRET));
    let erased = server.admin_delete("/calls/a", &[]).await;
    assert_eq!((&erased.body["events"], &erased.body["dead_letters"]), (&json!(0), &json!(1)));
    assert!(!is_readable(data.path(), SECRET) && is_readable(data.path(), OTHER));
    folder.replace_settings("50-observer", &collector.settings(""));
    server.reload().await;
    let retried = server.admin_post("/events/dead/retry", "").await;
    assert_eq!(retried.body, json!({"redriven": 1}));
    wait_for_delivered(&collector, "b", 1).await;
    assert_eq!(delivered_count(&collector, "a"), 0);
}

/// The error message of a plugin may have the caller's words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_error_of_plugin_is_erased() {
    let folder = PluginFolder::new()
        .with_guest("10-errs", "errs")
        .with_settings("10-errs", "[limits]\ntimeout = '15s'\n")
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &observer_action("error"));
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "15s");
    let server = setup.env("PLUGBOARD_EVENTS_INITIAL_BACKOFF", "60s").start();
    server.post(call_initiated_for("a", "5001")).await;
    let failed = |row: &Value| row["last_error"]["label"] == "guest_error";
    for plugin in ["10-errs", "50-observer"] {
        server.wait_for_plugin(plugin, failed).await;
    }
    // The erasure of another call, or of another platform, keeps the error.
    for path in ["/calls/b", "/calls/a?platform=blackbox"] {
        assert_eq!(server.admin_delete(path, &[]).await.status, 200);
        assert!(failed(&server.plugin_status("10-errs").await), "{path}");
        assert!(failed(&server.plugin_status("50-observer").await), "{path}");
    }
    assert_eq!(server.admin_delete("/calls/a?platform=dsai", &[]).await.status, 200);
    for plugin in ["10-errs", "50-observer"] {
        let row = server.plugin_status(plugin).await;
        assert_eq!((&row["state"], &row["last_error"]), (&json!("active"), &Value::Null));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erase_without_server_uses_data_folder() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "")
        .with_settings("50-observer", &observer_action("error"));
    let start = || start_with_long_backoff(&folder, data.path());
    let mut server = start();
    for nth in 0..3 {
        post(&server, user_transcription("a", nth, SECRET)).await;
        post(&server, user_transcription("b", nth, OTHER)).await;
    }
    let failed = |row: &Value| row["events"]["failed"].as_u64() >= Some(2);
    server.wait_for_plugin("50-observer", failed).await;
    let folder_of_data = data.path().to_str().unwrap();
    // Another process has the data folder, but no server answers at this address.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unused_address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let offline = ["a", "--data", folder_of_data, "--admin", &unused_address];
    let (status, output) = run_erase(&offline, &[]);
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("another process has locked it"), "{output}");
    assert!(output.contains(&format!("no server answers at {unused_address}")), "{output}");
    server.kill();
    assert!(is_readable(data.path(), SECRET));
    let expected = "erased 3 events, 0 dead letters, 0 plugin values\n".to_owned();
    assert_eq!(run_erase(&offline, &[]), (Some(0), expected));
    assert!(!is_readable(data.path(), SECRET) && is_readable(data.path(), OTHER));
    assert_eq!(
        run_erase(&offline, &[]),
        (Some(0), "nothing is stored about this call\n".to_owned())
    );
    folder.replace_settings("50-observer", &collector.settings(""));
    let server = start();
    wait_for_delivered(&collector, "b", 3).await;
    wait_until_journal_is_empty(&server, data.path()).await;
    assert_eq!(delivered_count(&collector, "a"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_erasure_is_reported_and_creates_no_file() {
    let data = TempDir::new().unwrap();
    let missing = data.path().join("nowhere");
    let missing_name = missing.to_str().unwrap();
    let (status, output) = run_erase(&["a", "--data", missing_name, "--admin", "127.0.0.1:1"], &[]);
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains(&format!("{missing_name}/plugboard.db does not exist")), "{output}");
    assert!(!missing.exists());
    let (status, output) = run_erase(&["a", "--platform", "nonesuch"], &[]);
    assert!(status == Some(1) && output.contains("expected one of `avr`"), "{output}");
    assert_eq!(run_erase(&[""], &[]), (Some(1), "plugboard: the call's id is empty\n".to_owned()));
    // The service at this address is not Plugboard.
    let other = Collector::start().await;
    let at = other.address();
    let erasure = tokio::task::spawn_blocking(move || run_erase(&["a", "--admin", &at], &[]));
    let (status, output) = erasure.await.unwrap();
    assert!(status == Some(1) && output.contains("is not that of Plugboard"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erase_requires_admin_token() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "");
    let token = ("PLUGBOARD_ADMIN_TOKEN", "t0ken");
    let server = ServerBuilder::new(folder.path())
        .with_data_folder(data.path())
        .env(token.0, token.1)
        .start();
    post(&server, user_transcription("a", 1, SECRET)).await;
    wait_for_delivered(&collector, "a", 1).await;
    assert_eq!(server.admin_delete("/calls/a", &[]).await.status, 401);
    let bearer = ("authorization", "Bearer another");
    assert_eq!(server.admin_delete("/calls/a", &[bearer]).await.status, 401);
    let at = server.admin_address().to_owned();
    let (status, output) = run_erase(&["a", "--admin", &at], &[]);
    assert!(status == Some(1) && output.contains("rejects the admin_token"), "{output}");
    assert!(is_readable(data.path(), SECRET));
    let (status, output) = run_erase(&["a", "--admin", &at], &[token]);
    assert_eq!(status, Some(0), "{output}");
    assert!(output.starts_with("erased 1 event, ") && !is_readable(data.path(), SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn named_platform_limits_erasure() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "");
    let server = ServerBuilder::new(folder.path()).with_data_folder(data.path()).start();
    post(&server, user_transcription("a", 1, SECRET)).await;
    wait_for_delivered(&collector, "a", 1).await;
    let at = server.admin_address().to_owned();
    let erase_on_platform =
        |platform| run_erase(&["a", "--admin", &at, "--platform", platform], &[]);
    assert_eq!(erase_on_platform("blackbox").1, "nothing is stored about this call\n");
    assert!(is_readable(data.path(), SECRET));
    // The name `dsai` is a brand of the platform `avr`.
    assert!(erase_on_platform("dsai").1.starts_with("erased 1 event, "));
    assert!(!is_readable(data.path(), SECRET));
    for path in ["/calls/a?platform=nonesuch", "/calls/a?x=y", "/calls/%FF"] {
        let rejected = server.admin_delete(path, &[]).await;
        assert_eq!(rejected.body["error"]["code"], "bad_request", "{path}");
    }
    assert_eq!(server.admin_get("/calls/a").await.status, 405);
}
