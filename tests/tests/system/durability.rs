//! What was acknowledged reaches its observer: after the end of the process at any
//! moment, with a disk that is full, a file that is locked, a folder that cannot be
//! written, and an observer that fails.

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

/// What simulate may take to write something.
const PATIENCE: Duration = Duration::from_secs(60);

/// A call that is played by the real program.
struct Simulation {
    child: Child,
    record: PathBuf,
}

impl Simulation {
    fn start(server: &Server, record: PathBuf, calls: u32) -> Self {
        let mut command = Command::new(program());
        command.args(["simulate", &server.events_url(), "--quiet", "--concurrency", "20"]);
        command.args(["--calls", &calls.to_string(), "--events", "8", "--time", "60s"]);
        command.arg("--record").arg(&record).env_clear();
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, record }
    }

    /// Waits until so many events were acknowledged.
    async fn wait_for(&self, events: usize) {
        let deadline = Instant::now() + PATIENCE;
        while acknowledged(&self.record).len() < events {
            assert!(Instant::now() < deadline, "only {}", acknowledged(&self.record).len());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends it; what was acknowledged.
    fn end(mut self) -> Vec<Acknowledged> {
        _ = self.child.kill();
        self.child.wait().unwrap();
        acknowledged(&self.record)
    }

    /// Waits for its end; what was acknowledged.
    fn finish(mut self) -> Vec<Acknowledged> {
        self.child.wait().unwrap();
        acknowledged(&self.record)
    }
}

/// Call, time and kind.
type Acknowledged = (String, String, String);

fn acknowledged(record: &Path) -> Vec<Acknowledged> {
    let text = std::fs::read_to_string(record).unwrap_or_default();
    // The last line may be half written.
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

/// Waits until everything that was acknowledged has come, and sees that what came
/// is in order; how many came, and how many more than once.
async fn all_came_in_order(collector: &Collector, sent: &[Acknowledged]) -> (usize, usize) {
    let key = |event: &Value| -> Acknowledged {
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        (text("call"), text("timestamp"), text("kind"))
    };
    let sent: HashSet<&Acknowledged> = sent.iter().collect();
    let events = collector
        .wait_for(|events| {
            let came: HashSet<Acknowledged> = events.iter().map(key).collect();
            sent.iter().all(|event| came.contains(*event))
        })
        .await;
    let mut came = HashSet::new();
    let mut last: HashMap<String, (String, bool)> = HashMap::new();
    for event in events.iter().map(key) {
        // Again is allowed; for the first time only in order.
        if came.insert(event.clone()) {
            let (call, timestamp, kind) = event;
            let place = (timestamp, kind == "routed");
            let before = last.insert(call, place.clone());
            assert!(before.as_ref().is_none_or(|before| *before < place), "{before:?} {place:?}");
        }
    }
    (came.len(), events.len() - came.len())
}

fn observed(collector: &Collector, more: &str) -> PluginFolder {
    PluginFolder::new()
        .with_guest("10-good", tests::ROUTING_GUEST)
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &collector.settings(more))
}

/// Twenty times, the process ends at some moment while calls are played.
async fn killed(more: &str, rounds: u32, settings: &[(&str, &str)]) -> (usize, usize, usize) {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, more);
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
        // Some moment that is another one each time.
        let events = 20 + (round as usize * 7_919) % 400;
        simulation.wait_for(events).await;
        server.kill();
        sent.extend(simulation.end());
    }
    // A caller does not wait long for the disk. What was taken after the beginning of a
    // call was written down after it.
    let beginning = |(_, _, kind): &(String, String, String)| kind == "initiated";
    let went_on = sent.iter().filter(|it| !beginning(it)).map(|it| it.0.clone());
    let went_on: HashSet<String> = went_on.collect();
    sent.retain(|it| !beginning(it) || went_on.contains(&it.0));
    let _server = start();
    let (came, again) = all_came_in_order(&collector, &sent).await;
    (sent.len(), came, again)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_arrives_however_often_the_process_is_killed() {
    let (sent, came, again) = killed("", 20, &[]).await;
    println!("killed 20 times: {sent} acknowledged, {came} came, in order; {again} came again");
    assert!(sent > 20 * 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_also_to_an_observer_that_fails_half_of_the_time() {
    let settings = [
        ("PLUGBOARD_EVENTS_ATTEMPTS", "100"),
        ("PLUGBOARD_EVENTS_BACKOFF", "1ms"),
        ("PLUGBOARD_EVENTS_MAX_BACKOFF", "10ms"),
        ("PLUGBOARD_BREAKER_FAILURES", "0"),
    ];
    let (sent, came, again) = killed("fail_percent = 50\n", 8, &settings).await;
    println!("failing, killed 8 times: {sent} acknowledged, {came} came, in order; {again} again");
    assert!(again > sent / 10, "it did not fail after all");
}

/// A file system of its own, small; None, with a word, where we may not have one.
struct Disk(TempDir);

impl Disk {
    fn new(options: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path());
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        report_skipped("this needs leave to mount a file system (mount -t tmpfs)");
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

/// Until an event is taken again.
async fn wait_until_taken(server: &Server) {
    let deadline = Instant::now() + PATIENCE;
    let mut nth = 0;
    while server.post(user_transcription("probe", nth, "hello")).await.status != 200 {
        assert!(Instant::now() < deadline, "it does not recover:\n{}", server.log_text());
        nth += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_refused(answer: &tests::ServerResponse) -> bool {
    let refused = answer.status == 503;
    assert!(!refused || answer.headers["retry-after"] == "1", "{answer:?}");
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_events_and_loses_none_that_it_took() {
    let Some(disk) = Disk::new("size=6m") else { return };
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "");
    let data = disk.0.path().join("data");
    let start = || ServerBuilder::new(folder.path()).with_data_folder(&data).start();
    let mut server = start();
    let mut sent = Simulation::start(&server, work.path().join("a.jsonl"), 1_500).finish();
    let refused = server.metric_value("plugboard_events_total{result=\"refused\"}").await.unwrap();
    assert!(refused > 0, "the disk was not filled by {} events", sent.len());
    let mut nth = 0;
    while !is_refused(&server.post(user_transcription("full", nth, "hello")).await) {
        nth += 1;
        assert!(nth < 10_000);
    }
    server.wait_for_log(|line| {
        line["level"] == "ERROR" && line["message"].as_str().unwrap_or("").contains("full")
    });
    // Calls are decided, and what became of them is told when there is room.
    let decided = server.post(call_initiated_for("while-full", "5001")).await;
    assert_eq!((decided.status, decided.sts_url().is_some()), (200, true));
    disk.remount("size=64m");
    wait_until_taken(&server).await;
    server.wait_for_log(|line| line["message"] == "the store can be written again");
    let came = |kind: &'static str| {
        move |events: &[Value]| {
            events.iter().any(|event| event["call"] == "while-full" && event["kind"] == kind)
        }
    };
    collector.wait_for(came("routed")).await;
    assert_eq!(collector.event_kinds("while-full"), ["initiated", "routed"]);
    sent.extend(Simulation::start(&server, work.path().join("b.jsonl"), 100).finish());
    server.kill();
    let _server = start();
    let (came, again) = all_came_in_order(&collector, &sent).await;
    println!(
        "full disk: {refused} refused, {} acknowledged, {came} came, in order; {again} again",
        sent.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_file_refuses_events_until_it_is_free() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "");
    let server = ServerBuilder::new(folder.path()).with_data_folder(work.path()).start();
    wait_until_taken(&server).await;
    let other = rusqlite::Connection::open(work.path().join("plugboard.db")).unwrap();
    // Between two transactions of the program.
    other.busy_timeout(Duration::from_secs(10)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(is_refused(&server.post(user_transcription("a", 1, "hello")).await));
    let decided = server.post(call_initiated_for("while-locked", "5001")).await;
    assert!(decided.sts_url().is_some());
    server.wait_for_log(|line| line["message"].as_str().unwrap_or("").contains("locked"));
    // Longer than the program tries.
    tokio::time::sleep(Duration::from_secs(1)).await;
    other.execute_batch("ROLLBACK").unwrap();
    wait_until_taken(&server).await;
    collector.wait_for(|events| events.iter().any(|it| it["call"] == "while-locked")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_written_refuses_events_until_it_can() {
    let Some(disk) = Disk::new("size=8m,ro") else { return };
    let collector = Collector::start().await;
    let folder = observed(&collector, "");
    let server =
        ServerBuilder::new(folder.path()).with_data_folder(&disk.0.path().join("data")).start();
    assert!(is_refused(&server.post(user_transcription("a", 1, "hello")).await));
    assert!(server.post(call_initiated_for("early", "5001")).await.sts_url().is_some());
    server.wait_for_log(|line| {
        line["level"] == "ERROR" && line["message"].as_str().unwrap_or("").contains("Read-only")
    });
    disk.remount("rw");
    wait_until_taken(&server).await;
    collector.wait_for(|events| events.iter().any(|it| it["call"] == "probe")).await;
    collector.wait_for(|events| events.iter().any(|it| it["call"] == "early")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_never_share_a_data_folder() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "");
    let start = || ServerBuilder::new(folder.path()).with_data_folder(work.path()).start();
    let mut first = start();
    assert_eq!(first.post(user_transcription("a", 1, "hello")).await.status, 200);
    let second = start();
    assert!(is_refused(&second.post(user_transcription("a", 2, "hello")).await));
    second.wait_for_log(|line| line["message"].as_str().unwrap_or("").contains("running twice"));
    first.stop();
    wait_until_taken(&second).await;
    collector.wait_for(|events| events.iter().any(|event| event["call"] == "probe")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_has_a_size_and_forgets_what_is_done() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "");
    let server = ServerBuilder::new(folder.path())
        .with_data_folder(work.path())
        .env("PLUGBOARD_JOURNAL_KEEP", "1s")
        .env("PLUGBOARD_JOURNAL_MAX_SIZE", "1MiB")
        .start();
    let long = "x".repeat(50_000);
    // Delivered, so that room is made for more.
    for nth in 0..60 {
        let answer = server.post(user_transcription("a", nth, &long)).await;
        if is_refused(&answer) {
            wait_until_taken(&server).await;
        }
    }
    // Nobody takes it, so that it stays.
    folder.replace_settings("50-observer", "enabled = false\n");
    server.reload().await;
    let deadline = Instant::now() + PATIENCE;
    let mut taken = 0;
    for nth in 1_000.. {
        let answer = server.post(user_transcription("b", nth, &long)).await;
        // One may be refused because the disk is slow.
        if !is_refused(&answer) {
            taken += 1;
        } else if answer.body["error"]["code"] == "store_full" {
            break;
        }
        assert!(Instant::now() < deadline, "it has no bound");
    }
    folder.replace_settings("50-observer", &collector.settings(""));
    server.reload().await;
    wait_until_taken(&server).await;
    // However full it was, what nobody had is not what was removed.
    let came = move |events: &[Value]| {
        count_distinct(events.iter().filter(|event| event["call"] == "b")) >= taken
    };
    collector.wait_for(came).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_done_is_kept_for_longer_than_what_is() {
    let (collector, work) = (Collector::start().await, TempDir::new().unwrap());
    let folder = observed(&collector, "do = 'error'\n");
    let start = || {
        ServerBuilder::new(folder.path())
            .with_data_folder(work.path())
            .env("PLUGBOARD_JOURNAL_KEEP", "1s")
            .env("PLUGBOARD_EVENTS_BACKOFF", "60s")
            .start()
    };
    let mut server = start();
    for nth in 0..3 {
        assert_eq!(server.post(user_transcription("a", nth, "hello")).await.status, 200);
    }
    server.wait_for_plugin("50-observer", |row| row["events"]["failed"].as_u64() >= Some(1)).await;
    // Some rounds of upkeep.
    tokio::time::sleep(Duration::from_secs(6)).await;
    server.kill();
    folder.replace_settings("50-observer", &collector.settings(""));
    let _server = start();
    collector.wait_for(|events| events.len() == 3).await;
}
