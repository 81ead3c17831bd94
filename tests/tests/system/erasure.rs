//! What is erased of a call is gone: nobody is told of it, nothing remembers it, and
//! no file has it, with a server that runs and with one that does not; and nothing of
//! other calls goes with it.

mod meanwhile;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    Collector, PluginFolder, Server, ServerBuilder, call_initiated_for, program, user_transcription,
};

/// For what is on its way.
const PATIENCE: Duration = Duration::from_secs(120);

/// Said in the call that is erased, and in another one.
const SECRET: &str = "Marker-of-what-the-caller-said";
const OTHER: &str = "Marker-of-another-call";

/// A folder with the fixture guest `observer`, which tells the collector.
fn observed(collector: &Collector, more: &str) -> PluginFolder {
    let settings = collector.settings(more);
    PluginFolder::new()
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &settings)
}

/// An observer that does this with events.
fn doing(what: &str) -> String {
    format!("[config]\ndo = '{what}'\n")
}

async fn post(server: &Server, body: String) {
    let answer = server.post(body).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"status": "ok"})));
}

/// Runs `plugboard forget`: its exit status, and what it said.
fn forget(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(program());
    let command = command.arg("forget").args(arguments).env_clear();
    // Where no plugboard.toml is.
    let nowhere = TempDir::new().unwrap();
    let output = command.envs(environment.iter().copied()).current_dir(nowhere.path()).output();
    let Output { status, stdout, stderr } = output.unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// Whether a text stands in a file of the folder. Asked of another process, as a test
/// may have the file open.
fn is_readable(folder: &Path, text: &str) -> bool {
    let mut grep = Command::new("grep");
    grep.args(["-rqaF", "--", text]).arg(folder).status().unwrap().success()
}

/// A server that leaves what failed alone for long, and keeps nothing that is done.
fn patient(folder: &PluginFolder, data: &Path) -> Server {
    ServerBuilder::new(folder.path())
        .with_data_folder(data)
        .env("PLUGBOARD_EVENTS_BACKOFF", "60s")
        .env("PLUGBOARD_JOURNAL_KEEP", "1s")
        .start()
}

/// How many events came of a call.
fn told(collector: &Collector, call: &str) -> usize {
    collector.event_kinds(call).len()
}

async fn wait_for_told(collector: &Collector, call: &str, count: usize) {
    let of_call = |events: &[Value]| events.iter().filter(|event| event["call"] == call).count();
    collector.wait_for(|events| of_call(events) >= count).await;
}

/// Waits until no observer has anything before it, and upkeep has emptied the journal:
/// nobody waits for what is not there any more.
async fn wait_until_all_is_done(server: &Server, data: &Path) {
    let deadline = Instant::now() + PATIENCE;
    let db = rusqlite::Connection::open(data.join("plugboard.db")).unwrap();
    let left = || db.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, u64>(0));
    loop {
        let backlog =
            server.metric_value("plugboard_observer_backlog{plugin=\"50-observer\"}").await;
        if (backlog, left().unwrap()) == (Some(0), 0) {
            return;
        }
        assert!(Instant::now() < deadline, "somebody waits:\n{}", server.metrics_text().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_runs_erases_everything_about_a_call() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    // One that has a prompt, one that is told, and one that keeps what was said.
    let folder = observed(&collector, "")
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
        wait_for_told(&collector, call, 5).await;
    }
    let keeps = |row: &Value| row["events"]["delivered"].as_u64() >= Some(10);
    server.wait_for_plugin("60-transcript-log", keeps).await;
    assert!(is_readable(data.path(), SECRET) && is_readable(data.path(), OTHER));
    let prompt = async |server: &Server, call| {
        server.get_with_headers("/instructions", &[("X-AVR-UUID", call)]).await.status
    };
    assert_eq!(prompt(&server, "b").await, 200);

    let at = server.admin_address().to_owned();
    let erased = forget(&["a/1 ü", "--admin", &at], &[]);
    let said_so =
        "erased 5 events, 0 dead letters, the memory of the call, 1 plugin value\n".to_owned();
    assert_eq!(erased, (Some(0), said_so));
    assert!(!is_readable(data.path(), SECRET), "it can be read while the server runs");
    assert!(is_readable(data.path(), OTHER));
    let line = server.wait_for_log(|line| line["message"] == "a call is erased");
    assert_eq!((&line["level"], &line["call"]), (&json!("INFO"), &json!("a/1 ü")));
    assert_eq!((&line["events"], &line["values"]), (&json!(5), &json!(1)));
    assert_eq!(forget(&["a/1 ü", "--admin", &at], &[]).1, "nothing was kept about this call\n");

    // What comes later is new, and nothing is remembered of before.
    post(&server, user_transcription("a/1 ü", 9, "again")).await;
    wait_for_told(&collector, "a/1 ü", 6).await;
    let again = collector.events().pop().unwrap();
    assert_eq!((&again["from"], &again["detail"]["text"]), (&Value::Null, &json!("again")));
    // What was erased is no news, if it comes again.
    post(&server, user_transcription("a/1 ü", 1, SECRET)).await;
    assert!(!is_readable(data.path(), SECRET));

    // Of the other one, all is there.
    assert_eq!(prompt(&server, "b").await, 200);
    post(&server, user_transcription("b", 9, "more")).await;
    wait_for_told(&collector, "b", 6).await;
    let erased = server.admin_delete("/calls/b", &[]).await;
    assert_eq!(erased.status, 200);
    assert_eq!(erased.body, json!({"events": 6, "dead": 0, "calls": 1, "values": 1}));
    assert_eq!(prompt(&server, "b").await, 404);
    server.kill();
    let server = start();
    assert_eq!(prompt(&server, "b").await, 404);
    assert!(!is_readable(data.path(), SECRET) && !is_readable(data.path(), OTHER));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_an_observer_that_fails_is_never_told() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "").with_settings("50-observer", &doing("error"));
    let start = || patient(&folder, data.path());
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
    // The last ones of the journal, too.
    let erased = server.admin_delete("/calls/c", &[]).await;
    assert_eq!(erased.body["events"], 5, "{erased:?}");
    let backlog = "plugboard_observer_backlog{plugin=\"50-observer\"}";
    let deadline = Instant::now() + PATIENCE;
    while server.metric_value(backlog).await != Some(5) {
        assert!(Instant::now() < deadline, "they are still before it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // With new settings, what rests is told at once.
    folder.replace_settings("50-observer", &collector.settings(""));
    server.reload().await;
    wait_for_told(&collector, "b", 5).await;
    post(&server, user_transcription("a", 7, "later")).await;
    wait_for_told(&collector, "a", 1).await;
    wait_until_all_is_done(&server, data.path()).await;
    server.stop();
    let server = start();
    post(&server, user_transcription("b", 7, "later")).await;
    wait_for_told(&collector, "b", 6).await;
    assert_eq!((told(&collector, "a"), told(&collector, "c")), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_told_is_waited_for_and_leaves_nothing_behind() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    // Its time is over, and it would be given up.
    let settings = doing("sleep") + "[limits]\nevent_timeout = '5s'\n";
    let folder = observed(&collector, "").with_settings("50-observer", &settings);
    let server = ServerBuilder::new(folder.path())
        .with_data_folder(data.path())
        .env("PLUGBOARD_EVENTS_ATTEMPTS", "1")
        .env("PLUGBOARD_JOURNAL_KEEP", "1s")
        .start();
    for nth in 0..3 {
        post(&server, user_transcription("a", nth, SECRET)).await;
    }
    server.wait_for_guests(1).await;
    let erased = server.admin_delete("/calls/a", &[]).await;
    assert_eq!((erased.status, &erased.body["events"]), (200, &json!(3)));
    let failed = server.plugin_status("50-observer").await["events"]["failed"].clone();
    assert_eq!(failed, 1, "it was not waited for, or more was told");
    wait_until_all_is_done(&server, data.path()).await;
    let dead = server.admin_get("/events/dead").await.body;
    assert_eq!(dead, json!({"total": [], "dead": []}));
    assert_eq!(server.plugin_status("50-observer").await["events"]["failed"], 1);
    assert!(!is_readable(data.path(), SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_erased_with_their_events() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "").with_settings("50-observer", &doing("error"));
    let server = ServerBuilder::new(folder.path())
        .with_data_folder(data.path())
        .env("PLUGBOARD_EVENTS_ATTEMPTS", "1")
        .env("PLUGBOARD_JOURNAL_KEEP", "1s")
        .start();
    post(&server, user_transcription("a", 1, SECRET)).await;
    post(&server, user_transcription("b", 1, OTHER)).await;
    let dead = |row: &Value| row["events"]["dead"].as_u64() == Some(2);
    server.wait_for_plugin("50-observer", dead).await;
    // They outlive their events.
    wait_until_all_is_done(&server, data.path()).await;
    assert!(is_readable(data.path(), SECRET));
    let erased = server.admin_delete("/calls/a", &[]).await;
    assert_eq!((&erased.body["events"], &erased.body["dead"]), (&json!(0), &json!(1)));
    assert!(!is_readable(data.path(), SECRET) && is_readable(data.path(), OTHER));
    folder.replace_settings("50-observer", &collector.settings(""));
    server.reload().await;
    let retried = server.admin_post("/events/dead/retry", "").await;
    assert_eq!(retried.body, json!({"retried": 1}));
    wait_for_told(&collector, "b", 1).await;
    assert_eq!(told(&collector, "a"), 0);
}

/// A plugin's own words may be those of the caller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_wrong_last_in_a_plugin_is_not_known_any_more() {
    let folder = PluginFolder::new()
        .with_guest("10-errs", "errs")
        .with_settings("10-errs", "[limits]\ntimeout = '15s'\n")
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &doing("error"));
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_BUDGET", "15s");
    let server = setup.env("PLUGBOARD_EVENTS_BACKOFF", "60s").start();
    server.post(call_initiated_for("a", "5001")).await;
    let failed = |row: &Value| row["last_error"]["label"] == "guest_error";
    for plugin in ["10-errs", "50-observer"] {
        server.wait_for_plugin(plugin, failed).await;
    }
    // Neither another call nor another platform's.
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
async fn without_a_server_it_is_done_in_the_data_folder() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "").with_settings("50-observer", &doing("error"));
    let start = || patient(&folder, data.path());
    let mut server = start();
    for nth in 0..3 {
        post(&server, user_transcription("a", nth, SECRET)).await;
        post(&server, user_transcription("b", nth, OTHER)).await;
    }
    let failed = |row: &Value| row["events"]["failed"].as_u64() >= Some(2);
    server.wait_for_plugin("50-observer", failed).await;
    let folder_of_data = data.path().to_str().unwrap();
    // Another process has it, which does not answer where we ask.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = taken.local_addr().unwrap().to_string();
    drop(taken);
    let offline = ["a", "--data", folder_of_data, "--admin", &nobody];
    let (status, said_so) = forget(&offline, &[]);
    assert_eq!(status, Some(1), "{said_so}");
    assert!(said_so.contains("another process has it"), "{said_so}");
    assert!(said_so.contains(&format!("no server answers at {nobody}")), "{said_so}");
    server.kill();
    assert!(is_readable(data.path(), SECRET));
    let said_so = "erased 3 events, 0 dead letters, 0 plugin values\n".to_owned();
    assert_eq!(forget(&offline, &[]), (Some(0), said_so));
    assert!(!is_readable(data.path(), SECRET) && is_readable(data.path(), OTHER));
    assert_eq!(forget(&offline, &[]), (Some(0), "nothing was kept about this call\n".to_owned()));
    folder.replace_settings("50-observer", &collector.settings(""));
    let server = start();
    wait_for_told(&collector, "b", 3).await;
    wait_until_all_is_done(&server, data.path()).await;
    assert_eq!(told(&collector, "a"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_said_and_nothing_is_made() {
    let data = TempDir::new().unwrap();
    let missing = data.path().join("nowhere");
    let missing_name = missing.to_str().unwrap();
    let (status, said_so) = forget(&["a", "--data", missing_name, "--admin", "127.0.0.1:1"], &[]);
    assert_eq!(status, Some(1), "{said_so}");
    assert!(said_so.contains(&format!("there is no {missing_name}/plugboard.db")), "{said_so}");
    assert!(!missing.exists());
    let (status, said_so) = forget(&["a", "--platform", "nonesuch"], &[]);
    assert!(status == Some(1) && said_so.contains("expected one of `avr`"), "{said_so}");
    assert_eq!(forget(&[""], &[]), (Some(1), "plugboard: the call's id is empty\n".to_owned()));
    // A service of somebody else.
    let other = Collector::start().await;
    let at = other.address();
    let asked = tokio::task::spawn_blocking(move || forget(&["a", "--admin", &at], &[]));
    let (status, said_so) = asked.await.unwrap();
    assert!(status == Some(1) && said_so.contains("is not this Plugboard"), "{said_so}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_takes_the_token_of_operators() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "");
    let token = ("PLUGBOARD_ADMIN_TOKEN", "t0ken");
    let server = ServerBuilder::new(folder.path())
        .with_data_folder(data.path())
        .env(token.0, token.1)
        .start();
    post(&server, user_transcription("a", 1, SECRET)).await;
    wait_for_told(&collector, "a", 1).await;
    assert_eq!(server.admin_delete("/calls/a", &[]).await.status, 401);
    let bearer = ("authorization", "Bearer another");
    assert_eq!(server.admin_delete("/calls/a", &[bearer]).await.status, 401);
    let at = server.admin_address().to_owned();
    let (status, said_so) = forget(&["a", "--admin", &at], &[]);
    assert!(status == Some(1) && said_so.contains("does not take the admin_token"), "{said_so}");
    assert!(is_readable(data.path(), SECRET));
    let (status, said_so) = forget(&["a", "--admin", &at], &[token]);
    assert_eq!(status, Some(0), "{said_so}");
    assert!(said_so.starts_with("erased 1 event, ") && !is_readable(data.path(), SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_is_named_is_the_only_one() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "");
    let server = ServerBuilder::new(folder.path()).with_data_folder(data.path()).start();
    post(&server, user_transcription("a", 1, SECRET)).await;
    wait_for_told(&collector, "a", 1).await;
    let at = server.admin_address().to_owned();
    let of_platform = |platform| forget(&["a", "--admin", &at, "--platform", platform], &[]);
    assert_eq!(of_platform("blackbox").1, "nothing was kept about this call\n");
    assert!(is_readable(data.path(), SECRET));
    // A brand of the one that it came from.
    assert!(of_platform("dsai").1.starts_with("erased 1 event, "));
    assert!(!is_readable(data.path(), SECRET));
    for path in ["/calls/a?platform=nonesuch", "/calls/a?x=y", "/calls/%FF"] {
        let refused = server.admin_delete(path, &[]).await;
        assert_eq!(refused.body["error"]["code"], "bad_request", "{path}");
    }
    assert_eq!(server.admin_get("/calls/a").await.status, 405);
}
