//! Command `plugboard simulate` against a running server.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Collector, PluginFolder, ROUTING_GUEST, Server, ServerBuilder, program};

/// Exit status, standard output and standard error of a run.
type Run = (Option<i32>, String, String);

/// Runs `plugboard simulate` on a blocking thread, because the collector needs the threads
/// of the runtime.
async fn simulate(url: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut command = Command::new(program());
    command.env_clear().arg("simulate").arg(url).args(arguments);
    command.envs(environment.iter().copied());
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    let run = tokio::time::timeout(Duration::from_secs(60), run);
    let Output { status, stdout, stderr } = run.await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Creates a folder with two plugins that route different calls, and an observer.
fn folder(collector: &Collector) -> PluginFolder {
    PluginFolder::new()
        .with_guest("10-alpha", "alpha")
        .with_settings("10-alpha", "match.to = '6001'\n")
        .with_guest("20-good", ROUTING_GUEST)
        .with_settings("20-good", "match.to = '50*'\n")
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &collector.settings(""))
}

/// Returns name and count of each row in a list of the report.
fn rows(list: &Value) -> Vec<(&str, u64)> {
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap(), row["count"].as_u64().unwrap())).collect()
}

async fn wait_for_delivery(server: &Server) {
    server.wait_for_plugin("50-observer", |row| row["lag"] == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulated_calls_are_answered_delivered_and_recorded() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder(&collector);
    let server = ServerBuilder::new(folder.path()).start();
    let record = data.path().join("record");
    let arguments = [
        "--calls",
        "40",
        "--events",
        "6",
        "--to",
        "5001",
        "--to",
        "6001",
        "--to",
        "5002",
        "--to",
        "7000",
        "--from",
        "4930123",
        "--json",
        "--record",
        record.to_str().unwrap(),
    ];
    let (status, stdout, stderr) = simulate(&server.events_url(), &arguments, &[]).await;
    assert_eq!((status, &*stderr), (Some(0), ""), "{stdout}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let all = 40 * (6 + 3);
    assert_eq!(report["stopped"], Value::Null);
    assert_eq!(
        (&report["calls"]["planned"], &report["calls"]["finished"]),
        (&json!(40), &json!(40))
    );
    let events = &report["events"];
    assert_eq!((&events["sent"], &events["acknowledged"]), (&json!(all), &json!(all)));
    assert_eq!((&events["failed"], &events["cut_off"]), (&json!(0), &json!(0)));
    assert_eq!(report["failures"], json!([]));
    let decisions = &report["decisions"];
    assert_eq!(decisions["answered"], 40);
    assert_eq!(
        (&decisions["with_sts_url"], &decisions["without_sts_url"]),
        (&json!(30), &json!(10))
    );
    assert_eq!(rows(&decisions["hosts"]), [("sts-good:6030", 20), ("alpha:6030", 10)]);
    assert!(!stdout.contains("ws://") && !stdout.contains("4930123"), "{stdout}");
    for latency in [&report["latency_ms"]["decisions"], &report["latency_ms"]["events"]] {
        let (p50, max) = (latency["p50"].as_f64().unwrap(), latency["max"].as_f64().unwrap());
        assert!(p50 > 0.0 && p50 <= max, "{latency}");
    }
    // The observer receives every acknowledged event, and the record contains it.
    let delivered = collector.wait_for(|delivered| delivered.len() >= all + 40).await;
    wait_for_delivery(&server).await;
    let to_key = |call: &Value, kind: &Value, timestamp: &Value| {
        [call, kind, timestamp].map(|value| value.as_str().unwrap().to_owned())
    };
    let delivered: Vec<_> = delivered
        .iter()
        .filter(|event| event["kind"] != "routed")
        .map(|event| to_key(&event["call"], &event["kind"], &event["timestamp"]))
        .collect();
    assert_eq!((delivered.len(), collector.events().len()), (all, all + 40));
    let record_lines = read_record(&record);
    let lines: HashSet<_> = record_lines
        .iter()
        .map(|line| {
            let [call, kind, timestamp] = to_key(&line["call"], &line["type"], &line["timestamp"]);
            [call, kind.trim_start_matches("call_").to_owned(), timestamp]
        })
        .collect();
    assert_eq!((record_lines.len(), lines.len()), (all, all));
    assert_eq!(delivered.into_iter().collect::<HashSet<_>>(), lines);
    let calls: HashSet<&str> =
        record_lines.iter().map(|line| line["call"].as_str().unwrap()).collect();
    assert_eq!(calls.len(), 40);
    for call in calls {
        let of_call = || record_lines.iter().filter(|line| line["call"] == call);
        assert!(of_call().map(|line| line["nth"].as_u64().unwrap()).eq(0..9));
        assert!(of_call().all(|line| line["status"] == 200));
        let kinds = collector.event_kinds(call);
        assert_eq!(kinds[..3], ["initiated", "routed", "started"]);
        assert_eq!((kinds.len(), kinds.last().unwrap().as_str()), (10, "ended"));
    }
}

fn read_record(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_report_is_readable_and_omits_urls() {
    let collector = Collector::start().await;
    let folder = folder(&collector);
    let server = ServerBuilder::new(folder.path()).start();
    let url = server.events_url();
    let arguments = ["--calls", "4", "--events", "1", "--from", "4930123"];
    let (status, stdout, _) = simulate(&url, &arguments, &[]).await;
    assert_eq!(status, Some(0), "{stdout}");
    for line in ["4  finished", "16  acknowledged", "0  failed", "4  with an sts_url"] {
        assert!(stdout.contains(line), "{line:?} is not in:\n{stdout}");
    }
    assert!(stdout.contains("hosts of sts_url\n              4  sts-good:6030\n"), "{stdout}");
    assert!(!stdout.contains("ws://") && !stdout.contains("4930123"), "{stdout}");
    // A single call is printed event by event.
    let (status, stdout, _) = simulate(&url, &["--events", "2"], &[]).await;
    assert_eq!(status, Some(0), "{stdout}");
    let printed: Vec<&str> = stdout.lines().take(6).collect();
    assert!(
        printed[0].starts_with("call ") && printed[1].contains("call_initiated  200"),
        "{stdout}"
    );
    assert!(printed[1].contains("sts_url \"ws://sts-good:6030/?uuid="), "{stdout}");
    assert!(printed[2].contains("call_started"), "{stdout}");
    assert!(printed[5].contains("call_ended") && printed[5].contains("200"), "{stdout}");
    let (_, stdout, printed) = simulate(&url, &["--events", "0", "--json", "--show"], &[]).await;
    serde_json::from_str::<Value>(&stdout).unwrap();
    assert_eq!(printed.lines().count(), 4, "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_fail_without_the_secret() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = folder(&collector);
    let server = ServerBuilder::new(folder.path()).env("WEBHOOK_SECRET", "s3cret").start();
    let url = server.events_url();
    let record = data.path().join("record");
    let usual = ["--calls", "3", "--events", "2", "--json", "--record", record.to_str().unwrap()];
    for (more, environment) in [
        (&[][..], &[][..]),
        (&["--secret", "wrong"], &[]),
        (&[], &[("WEBHOOK_SECRET", "wrong")]),
        (&["--secret", "wrong"], &[("WEBHOOK_SECRET", "s3cret")]),
    ] {
        let (status, stdout, _) = simulate(&url, &[&usual[..], more].concat(), environment).await;
        assert_eq!(status, Some(1), "{stdout}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(rows(&report["failures"]), [("status 401", 15)]);
        let events = &report["events"];
        assert_eq!((&events["failed"], &events["acknowledged"]), (&json!(15), &json!(0)));
        assert_eq!(report["latency_ms"], json!({"decisions": null, "events": null}));
        assert_eq!(read_record(&record).len(), 0);
    }
    assert_eq!(collector.requests().len(), 0);
    for (more, environment) in [
        (&["--secret", "s3cret"][..], &[][..]),
        (&[], &[("WEBHOOK_SECRET", "s3cret")]),
        (&["--secret", "s3cret"], &[("WEBHOOK_SECRET", "wrong")]),
    ] {
        let (status, stdout, _) = simulate(&url, &[&usual[..], more].concat(), environment).await;
        assert_eq!(status, Some(0), "{stdout}");
        assert!(!stdout.contains("s3cret"));
        // The record of the previous run is replaced.
        assert_eq!(read_record(&record).len(), 15);
    }
    collector.wait_for(|delivered| delivered.len() >= 3 * (15 + 3)).await;
}

#[tokio::test]
async fn unreachable_server_is_reported_at_once() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://me:s3cret@{address}/events");
    for arguments in [&[][..], &["--calls", "1000", "--json"], &["--rate", "1", "--calls", "9"]] {
        let (status, stdout, stderr) = simulate(&url, arguments, &[]).await;
        assert_eq!((status, &*stdout), (Some(1), ""), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        let expected = format!(
            "plugboard: cannot connect to http://{address}/events: refused; start the server with "
        );
        assert!(stderr.starts_with(&expected), "{stderr}");
        assert!(!stderr.contains("s3cret"), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_run_reports_reason() {
    let collector = Collector::start().await;
    let folder = folder(&collector);
    let server = ServerBuilder::new(folder.path()).start();
    // The path is not that of a webhook.
    let wrong = server.events_url().replace("/events", "/nothing");
    let (status, stdout, _) = simulate(&wrong, &["--calls", "2", "--json"], &[]).await;
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, rows(&report["failures"])), (Some(1), vec![("status 404", 22)]));
    // This run reaches its time limit.
    let slow = ["--calls", "2", "--event-interval", "1h", "--max-duration", "1s", "--json"];
    let (status, stdout, _) = simulate(&server.events_url(), &slow, &[]).await;
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &report["stopped"]), (Some(1), &json!("time limit reached")));
    assert_eq!((&report["calls"]["finished"], &report["events"]["sent"]), (&json!(0), &json!(2)));
    // An unwritable record is an error before the first call.
    wait_for_delivery(&server).await;
    let before = server.plugin_status("50-observer").await["events"]["delivered"].clone();
    let nowhere = ["--record", "/nowhere/record"];
    let (status, stdout, stderr) = simulate(&server.events_url(), &nowhere, &[]).await;
    assert_eq!((status, &*stdout), (Some(1), ""));
    assert!(stderr.contains("cannot write /nowhere/record"), "{stderr}");
    wait_for_delivery(&server).await;
    assert_eq!(before, server.plugin_status("50-observer").await["events"]["delivered"]);
    for bad in [
        &["--calls", "0"][..],
        &["--rate", "-1"],
        &["--event-interval", "5"],
        &["--concurrency", "0"],
    ] {
        assert_eq!(simulate(&server.events_url(), bad, &[]).await.0, Some(2), "{bad:?}");
    }
    assert_eq!(simulate("ftp://127.0.0.1/", &[], &[]).await.0, Some(2));
}
