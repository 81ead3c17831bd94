//! What is erased of a call is gone: nobody is told of it, nothing remembers it, and
//! no file has it, with a server that runs and with one that does not; and nothing of
//! other calls goes with it.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Collector, PluginFolder, Server, Setup, event, initiated_as, program, said};

/// For what is on its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// Said in the call that is erased, and in another one.
const SECRET: &str = "Marker-of-what-the-caller-said";
const OTHER: &str = "Marker-of-another-call";

/// A folder with the fixture guest `observer`, which tells the collector.
fn observed(collector: &Collector, more: &str) -> PluginFolder {
    let settings = collector.settings(more);
    PluginFolder::new().guest("50-observer", "observer").settings("50-observer", &settings)
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
    Setup::new(folder.path())
        .data(data)
        .env("PLUGBOARD_EVENTS_BACKOFF", "60s")
        .env("PLUGBOARD_JOURNAL_KEEP", "1s")
        .start()
}

/// How many events came of a call.
fn told(collector: &Collector, call: &str) -> usize {
    collector.kinds(call).len()
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
        let backlog = server.metric("plugboard_observer_backlog{plugin=\"50-observer\"}").await;
        if (backlog, left().unwrap()) == (Some(0), 0) {
            return;
        }
        assert!(Instant::now() < deadline, "somebody waits:\n{}", server.metrics().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_runs_erases_everything_about_a_call() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    // One that has a prompt, one that is told, and one that keeps what was said.
    let folder = observed(&collector, "")
        .guest("10-full", "full")
        .settings("10-full", "[grants]\nkv = true\n")
        .sample("60-transcript-log", "60-transcript-log")
        .settings("60-transcript-log", "[config]\nurl = 'http://x/'\n[grants]\nkv = true\n");
    let start = || Setup::new(folder.path()).data(data.path()).start();
    let mut server = start();
    for (call, text) in [("a/1 ü", SECRET), ("b", OTHER)] {
        assert!(server.post(initiated_as(call, "5001")).await.sts_url().is_some());
        for nth in 0..3 {
            post(&server, said(call, nth, text)).await;
        }
        wait_for_told(&collector, call, 5).await;
    }
    let keeps = |row: &Value| row["events"]["delivered"].as_u64() >= Some(6);
    server.wait_for_plugin("60-transcript-log", keeps).await;
    assert!(is_readable(data.path(), SECRET) && is_readable(data.path(), OTHER));
    let prompt = async |server: &Server, call| {
        server.get_with("/instructions", &[("X-AVR-UUID", call)]).await.status
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
    post(&server, said("a/1 ü", 9, "again")).await;
    wait_for_told(&collector, "a/1 ü", 6).await;
    let again = collector.events().pop().unwrap();
    assert_eq!((&again["from"], &again["detail"]["text"]), (&Value::Null, &json!("again")));
    // What was erased is no news, if it comes again.
    post(&server, said("a/1 ü", 1, SECRET)).await;
    assert!(!is_readable(data.path(), SECRET));

    // Of the other one, all is there.
    assert_eq!(prompt(&server, "b").await, 200);
    post(&server, said("b", 9, "more")).await;
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
    let folder = observed(&collector, "").settings("50-observer", &doing("error"));
    let start = || patient(&folder, data.path());
    let mut server = start();
    for nth in 0..5 {
        for call in ["a", "b", "c"] {
            post(&server, said(call, nth, SECRET)).await;
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
    while server.metric(backlog).await != Some(5) {
        assert!(Instant::now() < deadline, "they are still before it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // With new settings, what rests is told at once.
    folder.configure("50-observer", &collector.settings(""));
    server.reload().await;
    wait_for_told(&collector, "b", 5).await;
    post(&server, said("a", 7, "later")).await;
    wait_for_told(&collector, "a", 1).await;
    wait_until_all_is_done(&server, data.path()).await;
    server.stop();
    let server = start();
    post(&server, said("b", 7, "later")).await;
    wait_for_told(&collector, "b", 6).await;
    assert_eq!((told(&collector, "a"), told(&collector, "c")), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_told_is_waited_for_and_leaves_nothing_behind() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    // Its time is over, and it would be given up.
    let settings = doing("sleep") + "[limits]\nevent_timeout = '1500ms'\n";
    let folder = observed(&collector, "").settings("50-observer", &settings);
    let server = Setup::new(folder.path())
        .data(data.path())
        .env("PLUGBOARD_EVENTS_ATTEMPTS", "1")
        .env("PLUGBOARD_JOURNAL_KEEP", "1s")
        .start();
    for nth in 0..3 {
        post(&server, said("a", nth, SECRET)).await;
    }
    server.wait_for_guests(1).await;
    let erased = server.admin_delete("/calls/a", &[]).await;
    assert_eq!((erased.status, &erased.body["events"]), (200, &json!(3)));
    let failed = server.plugin("50-observer").await["events"]["failed"].clone();
    assert_eq!(failed, 1, "it was not waited for, or more was told");
    wait_until_all_is_done(&server, data.path()).await;
    let dead = server.admin("/events/dead").await.body;
    assert_eq!(dead, json!({"total": [], "dead": []}));
    assert_eq!(server.plugin("50-observer").await["events"]["failed"], 1);
    assert!(!is_readable(data.path(), SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_erased_with_their_events() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "").settings("50-observer", &doing("error"));
    let server = Setup::new(folder.path())
        .data(data.path())
        .env("PLUGBOARD_EVENTS_ATTEMPTS", "1")
        .env("PLUGBOARD_JOURNAL_KEEP", "1s")
        .start();
    post(&server, said("a", 1, SECRET)).await;
    post(&server, said("b", 1, OTHER)).await;
    let dead = |row: &Value| row["events"]["dead"].as_u64() == Some(2);
    server.wait_for_plugin("50-observer", dead).await;
    // They outlive their events.
    wait_until_all_is_done(&server, data.path()).await;
    assert!(is_readable(data.path(), SECRET));
    let erased = server.admin_delete("/calls/a", &[]).await;
    assert_eq!((&erased.body["events"], &erased.body["dead"]), (&json!(0), &json!(1)));
    assert!(!is_readable(data.path(), SECRET) && is_readable(data.path(), OTHER));
    folder.configure("50-observer", &collector.settings(""));
    server.reload().await;
    let retried = server.admin_post("/events/dead/retry", "").await;
    assert_eq!(retried.body, json!({"retried": 1}));
    wait_for_told(&collector, "b", 1).await;
    assert_eq!(told(&collector, "a"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_it_is_done_in_the_data_folder() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "").settings("50-observer", &doing("error"));
    let start = || patient(&folder, data.path());
    let mut server = start();
    for nth in 0..3 {
        post(&server, said("a", nth, SECRET)).await;
        post(&server, said("b", nth, OTHER)).await;
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
    folder.configure("50-observer", &collector.settings(""));
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
    let server = Setup::new(folder.path()).data(data.path()).env(token.0, token.1).start();
    post(&server, said("a", 1, SECRET)).await;
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
    let server = Setup::new(folder.path()).data(data.path()).start();
    post(&server, said("a", 1, SECRET)).await;
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
    assert_eq!(server.admin("/calls/a").await.status, 405);
}

/// One call's events are posted all the time, and so are another's, while it is erased
/// again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_came_before_is_told_after_however_it_meets() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "");
    let server = Arc::new(Setup::new(folder.path()).data(data.path()).start());
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU32::new(0));
    let poster = |call: &'static str, acknowledged: Arc<AtomicU32>| {
        let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
        tokio::spawn(async move {
            let client = tests::client();
            for nth in 1.. {
                let posted = server.post_with(&client, &[], said(call, nth, "hello")).await;
                assert_eq!(posted.status, 200);
                acknowledged.store(nth, SeqCst);
                if stop.load(SeqCst) {
                    return nth;
                }
            }
            0
        })
    };
    let others = poster("b", Arc::default());
    let erased = poster("a", Arc::clone(&acknowledged));
    // Up to which event, and how many requests had come when that was done.
    let mut erasures = Vec::new();
    for _ in 0..40 {
        let before = acknowledged.load(SeqCst);
        let answer = server.admin_delete("/calls/a", &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        erasures.push((before, collector.events().len()));
        tokio::time::sleep(Duration::from_millis(u64::from(before % 20))).await;
    }
    let last = acknowledged.load(SeqCst);
    stop.store(true, SeqCst);
    let (all_of_others, all) = (others.await.unwrap(), erased.await.unwrap());
    wait_for_told(&collector, "b", all_of_others as usize).await;
    let nth = |event: &Value| {
        // As `said` makes it: minutes, seconds and milliseconds.
        let ms = event["unix_ms"].as_u64().unwrap();
        u32::try_from(ms % 3_600_000).unwrap()
    };
    let is_last = |event: &Value| event["call"] == "a" && nth(event) == all;
    let events = collector.wait_for(|events| events.iter().any(is_last)).await;
    for (before, came) in erasures {
        let late = events.iter().skip(came).find(|it| it["call"] == "a" && nth(it) <= before);
        assert!(late.is_none(), "erased up to {before}, and told of afterwards: {late:?}");
    }
    let of_call = |call| events.iter().filter(move |event| event["call"] == call).map(nth);
    // All of the other one, and of the one what came after the last erasure; in order.
    assert!(of_call("b").eq(1..=all_of_others), "{:?}", of_call("b").collect::<Vec<_>>());
    assert!(of_call("a").is_sorted_by(|before, after| before < after));
    let after: Vec<u32> = of_call("a").filter(|nth| *nth > last).collect();
    assert!(after.iter().copied().eq(last + 1..=all), "{after:?}");
    println!("40 erasures among {all} events of the call: {} were told", of_call("a").count());
}

/// Appends so many events of a call to a journal that nobody uses.
fn fill(data: &Path, call: &str, count: u32) {
    let db = rusqlite::Connection::open(data.join("plugboard.db")).unwrap();
    let document = json!({"id": call, "platform": "avr", "agent": null, "from": "2000",
        "to": "5001", "metadata": []});
    let filled = db.execute(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
         INSERT INTO events
         SELECT (SELECT max(seq) FROM events) + n, randomblob(16), unixepoch('now') * 1000, NULL,
             'transcription', '2026-02-10T22:00:00.000Z', ?2,
             '{\"transcription\":{\"role\":\"user\",\"text\":\"' || hex(randomblob(100)) || '\"}}'
         FROM n",
        rusqlite::params![count, document.to_string()],
    );
    assert_eq!(filled.unwrap(), count as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_very_many_events_holds_nobody_up() {
    const EVENTS: u32 = 100_000;
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "").guest("10-good", tests::GOOD);
    let start = || Setup::new(folder.path()).data(data.path()).start();
    let mut server = start();
    post(&server, said("b", 0, "hello")).await;
    wait_for_told(&collector, "b", 1).await;
    // It waits for an observer that is not there.
    folder.configure("50-observer", &format!("enabled = false\n{}", collector.settings("")));
    server.reload().await;
    server.stop();
    fill(data.path(), "a", EVENTS);
    let server = Arc::new(start());
    let (started, asked) = (Instant::now(), Arc::clone(&server));
    let erasing = tokio::spawn(async move { asked.admin_delete("/calls/a", &[]).await });
    let (client, mut slowest, mut nth) = (tests::client(), Duration::ZERO, 0);
    while !erasing.is_finished() {
        nth += 1;
        let event = server.post_with(&client, &[], said("b", nth, "hello")).await;
        assert_eq!(event.status, 200);
        let call = initiated_as(&format!("call-{nth}"), "5001");
        let decided = server.post_with(&client, &[], call).await;
        assert!(decided.sts_url().is_some());
        slowest = slowest.max(event.took).max(decided.took);
    }
    let (erased, took) = (erasing.await.unwrap(), started.elapsed());
    assert_eq!(erased.body["events"], EVENTS, "{erased:?}");
    println!("{EVENTS} events erased in {took:?}; {nth} events and calls meanwhile, {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // The observer finds the rest behind it.
    folder.configure("50-observer", &collector.settings(""));
    server.reload().await;
    wait_for_told(&collector, "b", 1 + nth as usize).await;
    assert_eq!(told(&collector, "a"), 0);
    let done = event("b", "call_ended", nth + 1, &json!({}));
    post(&server, done).await;
    wait_for_told(&collector, "b", 2 + nth as usize).await;
}

/// A tool that was begun before knows what is erased meanwhile; nobody else does after.
#[tokio::test]
async fn a_tool_that_is_at_work_brings_nothing_back() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let slow = "[config]\ndo = 'slow'\ndelay_ms = 1000\nnames = 'slow'\n";
    let folder = observed(&collector, "").guest("20-tools", "tools").settings("20-tools", slow);
    let server = Arc::new(Setup::new(folder.path()).data(data.path()).blackbox().start());
    let start = json!({
        "type": "StartWebHookPayload", "callId": "gone", "endpoint": "+39",
        "callAdditionalData": {"note": SECRET},
    });
    assert_eq!(server.blackbox(start.to_string()).await.status, 200);
    wait_for_told(&collector, "gone", 2).await;
    let tool = json!({"toolName": "slow", "callId": "gone"}).to_string();
    let used = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.blackbox(tool).await }
    });
    server.wait_for_guests(1).await;
    let erased = server.admin_delete("/calls/gone", &[]).await;
    assert_eq!(erased.status, 200, "{erased:?}");
    // The tool had it from before, and was waited for.
    assert!(!is_readable(data.path(), SECRET));
    assert_eq!(used.await.unwrap().body["metadata"]["note"], SECRET);
    let next = server.blackbox(json!({"toolName": "slow", "callId": "gone"}).to_string()).await;
    assert_eq!(next.body["metadata"], json!({}));
    wait_for_told(&collector, "gone", 3).await;
    let told = collector.events();
    let later: Vec<_> = told.iter().filter(|event| event["kind"] == "tool_invoked").collect();
    assert_eq!(later.len(), 1, "{later:?}");
    assert_eq!((&later[0]["from"], &later[0]["metadata"]), (&Value::Null, &json!({})));
    assert!(!is_readable(data.path(), SECRET));
}
