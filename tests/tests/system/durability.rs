//! Durability: acknowledged events reach their observer after a kill at any moment, with
//! a full disk, a locked file, a read-only folder and a failing observer.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tests::{
    Collector, PluginFolder, Server, ServerBuilder, call_initiated_for, count_distinct, program,
    report_skipped, user_transcription,
};

/// Time limit of each wait for progress or recovery.
const PATIENCE: Duration = Duration::from_secs(60);

/// Process of `plugboard simulate`, which records the acknowledged events.
struct Simulation {
    child: Child,
    record: PathBuf,
}

impl Simulation {
    fn start(server: &Server, record: PathBuf, calls: u32) -> Self {
        let mut command = Command::new(program());
        command.args(["simulate", &server.events_url(), "--quiet", "--concurrency", "20"]);
        command.args(["--calls", &calls.to_string(), "--events", "8", "--max-duration", "60s"]);
        command.arg("--record").arg(&record).env_clear();
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, record }
    }

    /// Waits until this number of events is acknowledged.
    async fn wait_for(&self, events: usize) {
        let deadline = Instant::now() + PATIENCE;
        while acknowledged(&self.record).len() < events {
            assert!(Instant::now() < deadline, "only {}", acknowledged(&self.record).len());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Kills the process and returns the acknowledged events.
    fn kill(mut self) -> Vec<Acknowledged> {
        _ = self.child.kill();
        self.child.wait().unwrap();
        acknowledged(&self.record)
    }

    /// Waits for the end of the process and returns the acknowledged events.
    fn finish(mut self) -> Vec<Acknowledged> {
        self.child.wait().unwrap();
        acknowledged(&self.record)
    }
}

/// Call, timestamp and kind of an event.
type Acknowledged = (String, String, String);

fn acknowledged(record: &Path) -> Vec<Acknowledged> {
    let text = std::fs::read_to_string(record).unwrap_or_default();
    // The last line may be incomplete.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines
        .map(|line| {
            let kind = text(&line["type"]);
            let kind = kind.strip_prefix("call_").unwrap_or(&kind).to_owned();
            (text(&line["call"]), text(&line["timestamp"]), kind)
        })
        .collect()
}

/// Waits for the delivery of all acknowledged events and checks the order within each
/// call. Returns the numbers of delivered events and of redeliveries.
async fn assert_ordered_delivery(collector: &Collector, sent: &[Acknowledged]) -> (usize, usize) {
    let key = |event: &Value| -> Acknowledged {
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        (text("call"), text("timestamp"), text("kind"))
    };
    let sent: HashSet<&Acknowledged> = sent.iter().collect();
    let events = collector
        .wait_for(|events| {
            let delivered: HashSet<Acknowledged> = events.iter().map(key).collect();
            sent.iter().all(|event| delivered.contains(*event))
        })
        .await;
    let mut delivered = HashSet::new();
    let mut last: HashMap<String, (String, bool)> = HashMap::new();
    for event in events.iter().map(key) {
        // Redeliveries have no order; first deliveries do.
        if delivered.insert(event.clone()) {
            let (call, timestamp, kind) = event;
            let place = (timestamp, kind == "routed");
            let before = last.insert(call, place.clone());
            assert!(before.as_ref().is_none_or(|before| *before < place), "{before:?} {place:?}");
        }
    }
    (delivered.len(), events.len() - delivered.len())
}

fn folder_with_observer(collector: &Collector, more: &str) -> PluginFolder {
    PluginFolder::new()
        .with_guest("10-good", tests::ROUTING_GUEST)
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &collector.settings(more))
}

/// Kills the server in each round while a simulation runs. Returns the numbers of
/// acknowledged events, delivered events and redeliveries.
async fn run_with_kills(
    more: &str,
    rounds: u32,
    settings: &[(&str, &str)],
) -> (usize, usize, usize) {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, more);
    let data = work.path().join("data");
    let start = || {
        let setup = ServerBuilder::new(folder.path()).with_data_folder(&data);
        settings.iter().fold(setup, |setup, (name, value)| setup.env(name, value)).start()
    };
    let mut sent = Vec::new();
    for round in 0..rounds {
        let mut server = start();
        let simulation =
            Simulation::start(&server, work.path().join(format!("{round}.jsonl")), 100_000);
        // The moment of the kill differs in each round.
        let events = 20 + (round as usize * 7_919) % 400;
        simulation.wait_for(events).await;
        server.kill();
        sent.extend(simulation.kill());
    }
    // A decision does not wait for the disk, so a kill may lose the start of a call. An
    // acknowledged later event of the call implies that the start is written.
    let is_start = |(_, _, kind): &(String, String, String)| kind == "initiated";
    let continued = sent.iter().filter(|it| !is_start(it)).map(|it| it.0.clone());
    let continued: HashSet<String> = continued.collect();
    sent.retain(|it| !is_start(it) || continued.contains(&it.0));
    let _server = start();
    let (delivered, redelivered) = assert_ordered_delivery(&collector, &sent).await;
    (sent.len(), delivered, redelivered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_events_are_delivered_after_kills() {
    let (sent, delivered, redelivered) = run_with_kills("", 20, &[]).await;
    println!("20 kills: {sent} acknowledged, {delivered} delivered in order, {redelivered} again");
    assert!(sent > 20 * 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_observer_receives_events_after_kills() {
    let settings = [
        ("PLUGBOARD_EVENTS_MAX_ATTEMPTS", "100"),
        ("PLUGBOARD_EVENTS_INITIAL_BACKOFF", "1ms"),
        ("PLUGBOARD_EVENTS_MAX_BACKOFF", "10ms"),
        ("PLUGBOARD_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "0"),
    ];
    let (sent, delivered, redelivered) = run_with_kills("fail_percent = 50\n", 8, &settings).await;
    println!("8 kills: {sent} acknowledged, {delivered} delivered in order, {redelivered} again");
    assert!(redelivered > sent / 10, "the observer did not fail");
}

/// Small file system. Without the permission to mount one, `new` returns None and reports
/// the skipped test.
struct Disk(TempDir);

impl Disk {
    fn new(options: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path());
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        report_skipped("this test needs the permission to mount a file system (mount -t tmpfs)");
        None
    }

    fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(self.0.path());
        let output = mount.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Posts events until the server accepts one.
async fn wait_until_accepted(server: &Server) {
    let deadline = Instant::now() + PATIENCE;
    let mut nth = 0;
    while server.post(user_transcription("probe", nth, "hello")).await.status != 200 {
        assert!(Instant::now() < deadline, "the server does not recover:\n{}", server.log_text());
        nth += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_rejected(answer: &tests::ServerResponse) -> bool {
    let is_rejected = answer.status == 503;
    assert!(!is_rejected || answer.headers["retry-after"] == "1", "{answer:?}");
    is_rejected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_rejects_events_and_loses_none() {
    let Some(disk) = Disk::new("size=6m") else { return };
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "");
    let data = disk.0.path().join("data");
    let start = || ServerBuilder::new(folder.path()).with_data_folder(&data).start();
    let mut server = start();
    let mut sent = Simulation::start(&server, work.path().join("a.jsonl"), 1_500).finish();
    let rejected =
        server.metric_value("plugboard_events_total{result=\"rejected\"}").await.unwrap();
    assert!(rejected > 0, "the disk was not filled by {} events", sent.len());
    let mut nth = 0;
    while !is_rejected(&server.post(user_transcription("full", nth, "hello")).await) {
        nth += 1;
        assert!(nth < 10_000);
    }
    server.wait_for_log(|line| {
        line["level"] == "ERROR" && line["message"].as_str().unwrap_or("").contains("full")
    });
    // Calls are decided. Their events are delivered when the disk has space.
    let decided = server.post(call_initiated_for("while-full", "5001")).await;
    assert_eq!((decided.status, decided.sts_url().is_some()), (200, true));
    disk.remount("size=64m");
    wait_until_accepted(&server).await;
    server.wait_for_log(|line| line["message"] == "store is writable again");
    let is_delivered = |kind: &'static str| {
        move |events: &[Value]| {
            events.iter().any(|event| event["call"] == "while-full" && event["kind"] == kind)
        }
    };
    collector.wait_for(is_delivered("routed")).await;
    assert_eq!(collector.event_kinds("while-full"), ["initiated", "routed"]);
    sent.extend(Simulation::start(&server, work.path().join("b.jsonl"), 100).finish());
    server.kill();
    let _server = start();
    let (delivered, redelivered) = assert_ordered_delivery(&collector, &sent).await;
    println!(
        "full disk: {rejected} rejected, {} acknowledged, {delivered} delivered in order, \
         {redelivered} again",
        sent.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_file_rejects_events_until_unlocked() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "");
    let server = ServerBuilder::new(folder.path()).with_data_folder(work.path()).start();
    wait_until_accepted(&server).await;
    let other = rusqlite::Connection::open(work.path().join("plugboard.db")).unwrap();
    // The lock begins between two transactions of the server.
    other.busy_timeout(Duration::from_secs(10)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(is_rejected(&server.post(user_transcription("a", 1, "hello")).await));
    let decided = server.post(call_initiated_for("while-locked", "5001")).await;
    assert!(decided.sts_url().is_some());
    server.wait_for_log(|line| line["message"].as_str().unwrap_or("").contains("locked"));
    // Longer than the server waits for the lock.
    tokio::time::sleep(Duration::from_secs(1)).await;
    other.execute_batch("ROLLBACK").unwrap();
    wait_until_accepted(&server).await;
    collector.wait_for(|events| events.iter().any(|it| it["call"] == "while-locked")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_only_folder_rejects_events_until_writable() {
    let Some(disk) = Disk::new("size=8m,ro") else { return };
    let collector = Collector::start().await;
    let folder = folder_with_observer(&collector, "");
    let server =
        ServerBuilder::new(folder.path()).with_data_folder(&disk.0.path().join("data")).start();
    assert!(is_rejected(&server.post(user_transcription("a", 1, "hello")).await));
    assert!(server.post(call_initiated_for("early", "5001")).await.sts_url().is_some());
    server.wait_for_log(|line| {
        line["level"] == "ERROR" && line["message"].as_str().unwrap_or("").contains("Read-only")
    });
    disk.remount("rw");
    wait_until_accepted(&server).await;
    collector.wait_for(|events| events.iter().any(|it| it["call"] == "probe")).await;
    collector.wait_for(|events| events.iter().any(|it| it["call"] == "early")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_never_share_a_data_folder() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "");
    let start = || ServerBuilder::new(folder.path()).with_data_folder(work.path()).start();
    let mut first = start();
    assert_eq!(first.post(user_transcription("a", 1, "hello")).await.status, 200);
    let second = start();
    assert!(is_rejected(&second.post(user_transcription("a", 2, "hello")).await));
    second.wait_for_log(|line| line["message"].as_str().unwrap_or("").contains("running twice"));
    first.stop();
    wait_until_accepted(&second).await;
    collector.wait_for(|events| events.iter().any(|event| event["call"] == "probe")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn journal_is_bounded_and_removes_delivered_events() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "");
    let server = ServerBuilder::new(folder.path())
        .with_data_folder(work.path())
        .env("PLUGBOARD_JOURNAL_RETENTION", "1s")
        .env("PLUGBOARD_JOURNAL_MAX_SIZE", "1MiB")
        .start();
    let long = "x".repeat(50_000);
    // The observer receives these events, so retention removes them.
    for nth in 0..60 {
        let answer = server.post(user_transcription("a", nth, &long)).await;
        if is_rejected(&answer) {
            wait_until_accepted(&server).await;
        }
    }
    // The disabled observer receives no event, so the events stay.
    folder.replace_settings("50-observer", "enabled = false\n");
    server.reload().await;
    let deadline = Instant::now() + PATIENCE;
    let mut accepted = 0;
    for nth in 1_000.. {
        let answer = server.post(user_transcription("b", nth, &long)).await;
        // A slow disk may also cause a rejection.
        if !is_rejected(&answer) {
            accepted += 1;
        } else if answer.body["error"]["code"] == "store_full" {
            break;
        }
        assert!(Instant::now() < deadline, "the journal has no bound");
    }
    folder.replace_settings("50-observer", &collector.settings(""));
    server.reload().await;
    wait_until_accepted(&server).await;
    // The full journal removed no undelivered event.
    let is_complete = move |events: &[Value]| {
        count_distinct(events.iter().filter(|event| event["call"] == "b")) >= accepted
    };
    collector.wait_for(is_complete).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undelivered_events_outlive_retention() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder_with_observer(&collector, "do = 'error'\n");
    let start = || {
        ServerBuilder::new(folder.path())
            .with_data_folder(work.path())
            .env("PLUGBOARD_JOURNAL_RETENTION", "1s")
            .env("PLUGBOARD_EVENTS_INITIAL_BACKOFF", "60s")
            .start()
    };
    let mut server = start();
    for nth in 0..3 {
        assert_eq!(server.post(user_transcription("a", nth, "hello")).await.status, 200);
    }
    server.wait_for_plugin("50-observer", |row| row["events"]["failed"].as_u64() >= Some(1)).await;
    // Time for some rounds of retention.
    tokio::time::sleep(Duration::from_secs(6)).await;
    server.kill();
    folder.replace_settings("50-observer", &collector.settings(""));
    let _server = start();
    collector.wait_for(|events| events.len() == 3).await;
}
