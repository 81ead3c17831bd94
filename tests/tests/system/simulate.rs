//! `plugboard simulate` against the program itself.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Collector, PluginFolder, ROUTING_GUEST, Server, ServerBuilder, program};

/// What came of a run: its exit status, what it said, what it complained of.
type Run = (Option<i32>, String, String);

/// Plays calls. Away from the runtime's threads, where the collector is.
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

/// Two plugins that route, each its calls, and one that observes.
fn folder(collector: &Collector) -> PluginFolder {
    PluginFolder::new()
        .with_guest("10-alpha", "alpha")
        .with_settings("10-alpha", "match.to = '6001'\n")
        .with_guest("20-good", ROUTING_GUEST)
        .with_settings("20-good", "match.to = '50*'\n")
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &collector.settings(""))
}

/// The rows of a report's list as pairs.
fn rows(list: &Value) -> Vec<(&str, u64)> {
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap(), row["count"].as_u64().unwrap())).collect()
}

async fn settled(server: &Server) {
    server.wait_for_plugin("50-observer", |row| row["backlog"] == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_that_is_played_is_answered_and_told() {
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
    let (status, said, complaints) = simulate(&server.events_url(), &arguments, &[]).await;
    assert_eq!((status, &*complaints), (Some(0), ""), "{said}");
    let report: Value = serde_json::from_str(&said).unwrap();
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
    assert!(!said.contains("ws://") && !said.contains("4930123"), "{said}");
    for latency in [&report["latency_ms"]["decisions"], &report["latency_ms"]["events"]] {
        let (p50, max) = (latency["p50"].as_f64().unwrap(), latency["max"].as_f64().unwrap());
        assert!(p50 > 0.0 && p50 <= max, "{latency}");
    }
    // What the platform was told was kept, told to the observer, and recorded.
    let told = collector.wait_for(|told| told.len() >= all + 40).await;
    settled(&server).await;
    let named = |call: &Value, kind: &Value, timestamp: &Value| {
        [call, kind, timestamp].map(|value| value.as_str().unwrap().to_owned())
    };
    let told: Vec<_> = told
        .iter()
        .filter(|event| event["kind"] != "routed")
        .map(|event| named(&event["call"], &event["kind"], &event["timestamp"]))
        .collect();
    assert_eq!((told.len(), collector.events().len()), (all, all + 40));
    let recorded = recorded(&record);
    let lines: HashSet<_> = recorded
        .iter()
        .map(|line| {
            let [call, kind, timestamp] = named(&line["call"], &line["type"], &line["timestamp"]);
            [call, kind.trim_start_matches("call_").to_owned(), timestamp]
        })
        .collect();
    assert_eq!((recorded.len(), lines.len()), (all, all));
    assert_eq!(told.into_iter().collect::<HashSet<_>>(), lines);
    let calls: HashSet<&str> = recorded.iter().map(|line| line["call"].as_str().unwrap()).collect();
    assert_eq!(calls.len(), 40);
    for call in calls {
        let of_call = || recorded.iter().filter(|line| line["call"] == call);
        assert!(of_call().map(|line| line["nth"].as_u64().unwrap()).eq(0..9));
        assert!(of_call().all(|line| line["status"] == 200));
        let kinds = collector.event_kinds(call);
        assert_eq!(kinds[..3], ["initiated", "routed", "started"]);
        assert_eq!((kinds.len(), kinds.last().unwrap().as_str()), (10, "ended"));
    }
}

fn recorded(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_says_is_for_people_and_keeps_urls_to_itself() {
    let collector = Collector::start().await;
    let folder = folder(&collector);
    let server = ServerBuilder::new(folder.path()).start();
    let url = server.events_url();
    let arguments = ["--calls", "4", "--events", "1", "--from", "4930123"];
    let (status, said, _) = simulate(&url, &arguments, &[]).await;
    assert_eq!(status, Some(0), "{said}");
    for line in ["4  finished", "16  acknowledged", "0  failed", "4  with an sts_url"] {
        assert!(said.contains(line), "{line:?} is not in:\n{said}");
    }
    assert!(said.contains("hosts of sts_url\n              4  sts-good:6030\n"), "{said}");
    assert!(!said.contains("ws://") && !said.contains("4930123"), "{said}");
    // One call alone is shown as it goes.
    let (status, said, _) = simulate(&url, &["--events", "2"], &[]).await;
    assert_eq!(status, Some(0), "{said}");
    let story: Vec<&str> = said.lines().take(6).collect();
    assert!(story[0].starts_with("call ") && story[1].contains("call_initiated  200"), "{said}");
    assert!(story[1].contains("sts_url \"ws://sts-good:6030/?uuid="), "{said}");
    assert!(story[2].contains("call_started"), "{said}");
    assert!(story[5].contains("call_ended") && story[5].contains("200"), "{said}");
    let (_, said, story) = simulate(&url, &["--events", "0", "--json", "--show"], &[]).await;
    serde_json::from_str::<Value>(&said).unwrap();
    assert_eq!(story.lines().count(), 4, "{story}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_must_be_shown() {
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
        let (status, said, _) = simulate(&url, &[&usual[..], more].concat(), environment).await;
        assert_eq!(status, Some(1), "{said}");
        let report: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(rows(&report["failures"]), [("status 401", 15)]);
        let events = &report["events"];
        assert_eq!((&events["failed"], &events["acknowledged"]), (&json!(15), &json!(0)));
        assert_eq!(report["latency_ms"], json!({"decisions": null, "events": null}));
        assert_eq!(recorded(&record).len(), 0);
    }
    assert_eq!(collector.requests().len(), 0);
    for (more, environment) in [
        (&["--secret", "s3cret"][..], &[][..]),
        (&[], &[("WEBHOOK_SECRET", "s3cret")]),
        (&["--secret", "s3cret"], &[("WEBHOOK_SECRET", "wrong")]),
    ] {
        let (status, said, _) = simulate(&url, &[&usual[..], more].concat(), environment).await;
        assert_eq!(status, Some(0), "{said}");
        assert!(!said.contains("s3cret"));
        // Not added to what another run left.
        assert_eq!(recorded(&record).len(), 15);
    }
    collector.wait_for(|told| told.len() >= 3 * (15 + 3)).await;
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://me:s3cret@{gone}/events");
    for arguments in [&[][..], &["--calls", "1000", "--json"], &["--rate", "1", "--calls", "9"]] {
        let (status, said, complaints) = simulate(&url, arguments, &[]).await;
        assert_eq!((status, &*said), (Some(1), ""), "{complaints}");
        assert_eq!(complaints.lines().count(), 1, "{complaints}");
        let expected = format!(
            "plugboard: cannot connect to http://{gone}/events: refused; is Plugboard there?"
        );
        assert!(complaints.starts_with(&expected), "{complaints}");
        assert!(!complaints.contains("s3cret"), "{complaints}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_cannot_go_well_says_why() {
    let collector = Collector::start().await;
    let folder = folder(&collector);
    let server = ServerBuilder::new(folder.path()).start();
    // Another path is none of a webhook.
    let wrong = server.events_url().replace("/events", "/nothing");
    let (status, said, _) = simulate(&wrong, &["--calls", "2", "--json"], &[]).await;
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((status, rows(&report["failures"])), (Some(1), vec![("status 404", 22)]));
    // Time is up.
    let slow = ["--calls", "2", "--pace", "1h", "--time", "1s", "--json"];
    let (status, said, _) = simulate(&server.events_url(), &slow, &[]).await;
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((status, &report["stopped"]), (Some(1), &json!("time is up")));
    assert_eq!((&report["calls"]["finished"], &report["events"]["sent"]), (&json!(0), &json!(2)));
    // A record that cannot be written is better known before.
    settled(&server).await;
    let before = server.plugin_status("50-observer").await["events"]["delivered"].clone();
    let nowhere = ["--record", "/nowhere/record"];
    let (status, said, complaints) = simulate(&server.events_url(), &nowhere, &[]).await;
    assert_eq!((status, &*said), (Some(1), ""));
    assert!(complaints.contains("cannot write /nowhere/record"), "{complaints}");
    settled(&server).await;
    assert_eq!(before, server.plugin_status("50-observer").await["events"]["delivered"]);
    for bad in [&["--calls", "0"][..], &["--rate", "-1"], &["--pace", "5"], &["--concurrency", "0"]]
    {
        assert_eq!(simulate(&server.events_url(), bad, &[]).await.0, Some(2), "{bad:?}");
    }
    assert_eq!(simulate("ftp://127.0.0.1/", &[], &[]).await.0, Some(2));
}
