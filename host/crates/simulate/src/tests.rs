//! Tests of whole runs against a minimal server.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use clap::Parser;
use serde_json::Value;

use super::*;

#[derive(Parser)]
struct SimulateArguments {
    #[command(flatten)]
    simulate: SimulateCommand,
}

fn parse(arguments: &[&str]) -> Result<SimulateCommand, clap::Error> {
    SimulateArguments::try_parse_from([&["simulate"], arguments].concat()).map(|line| line.simulate)
}

/// A posted request: the head in lower case, and the body.
type PostedEvent = (String, Value);

/// Answers every request with the result of `answer` for its number: a status and a body, or no
/// answer for status 0.
fn serve(
    answer: impl Fn(usize, &Value) -> (u16, String) + Clone + Send + 'static,
) -> (SocketAddr, mpsc::Receiver<PostedEvent>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (posted_sender, posted) = mpsc::channel();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (event_sender, answer, count) =
                (posted_sender.clone(), answer.clone(), Arc::clone(&count));
            thread::spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                while let Some((head, body)) = read(&mut stream) {
                    let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let (status, text) = answer(number, &body);
                    let _ = event_sender.send((head, body));
                    if status == 0 {
                        thread::sleep(Duration::from_secs(60));
                    }
                    let length = text.len();
                    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n");
                    if stream.get_mut().write_all((head + &text).as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, posted)
}

fn read(stream: &mut BufReader<TcpStream>) -> Option<PostedEvent> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).unwrap()))
}

fn accept(_: usize, body: &Value) -> (u16, String) {
    let is_decision = body["type"] == "call_initiated";
    let text = if is_decision { r#"{"sts_url":"ws://sts:6030/?from=2000"}"# } else { "{}" };
    (200, text.to_owned())
}

/// Returns the report as JSON, and the error.
async fn run_simulation(
    address: SocketAddr,
    arguments: &[&str],
) -> anyhow::Result<(Value, Option<anyhow::Error>)> {
    let url = format!("http://{address}/events");
    let all = [&[&*url, "--quiet", "--json"], arguments].concat();
    let (report, error) = parse(&all)?.play(std::future::pending()).await?;
    Ok((serde_json::to_value(report)?, error))
}

#[tokio::test]
async fn calls_are_sent_complete_and_in_order() {
    let (address, posted) = serve(accept);
    let file = tempfile::NamedTempFile::new().unwrap();
    let record = file.path().to_str().unwrap();
    let arguments = ["--calls", "20", "--events", "5", "--concurrency", "4", "--secret", "s3cret"];
    let to = ["--to", "1", "--to", "2", "--record", record];
    let (report, error) = run_simulation(address, &[&arguments[..], &to].concat()).await.unwrap();

    assert!(error.is_none());
    assert_eq!(report["calls"]["finished"], 20);
    assert_eq!(report["events"]["sent"], 160);
    assert_eq!(report["events"]["acknowledged"], 160);
    assert_eq!(report["decisions"]["hosts"][0]["name"], "sts:6030");
    assert_eq!(report["decisions"]["with_sts_url"], 20);
    let mut calls: HashMap<String, Vec<Value>> = HashMap::new();
    for (head, body) in posted.try_iter() {
        assert!(head.starts_with("post /events http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nx-avr-webhook-secret: s3cret\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
        calls.entry(body["uuid"].as_str().unwrap().to_owned()).or_default().push(body);
    }
    assert_eq!(calls.len(), 20);
    for events in calls.values() {
        let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!((types.len(), types[0], types[1]), (8, "call_initiated", "call_started"));
        assert_eq!(types[7], "call_ended");
        let is_sorted = events.is_sorted_by(|a, b| {
            a["timestamp"].as_str().unwrap() < b["timestamp"].as_str().unwrap()
        });
        assert!(is_sorted, "{events:?}");
    }
    let called: HashSet<&str> =
        calls.values().map(|events| events[0]["payload"]["to"].as_str().unwrap()).collect();
    assert_eq!(called, HashSet::from(["1", "2"]));

    let record = std::fs::read_to_string(record).unwrap();
    assert_eq!(record.lines().count(), 160);
    for line in record.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let nth = usize::try_from(line["nth"].as_u64().unwrap()).unwrap();
        let event = &calls[line["call"].as_str().unwrap()][nth];
        assert_eq!(line["type"], event["type"]);
        assert_eq!(line["timestamp"], event["timestamp"]);
        assert_eq!(line["status"], 200);
    }
}

#[tokio::test]
async fn call_continues_after_failed_event() {
    let (address, posted) = serve(|number, body| match number {
        1 => (503, String::new()),
        2 => (302, String::new()),
        _ => accept(number, body),
    });
    let (report, _) = run_simulation(address, &["--events", "0"]).await.unwrap();
    assert_eq!(posted.try_iter().count(), 3);
    assert_eq!(report["calls"]["finished"], 1);
    assert_eq!(report["events"]["failed"], 2);
    assert_eq!(report["failures"][0]["name"], "status 302");
    assert_eq!(report["failures"][1]["name"], "status 503");
}

#[tokio::test]
async fn retry_sends_identical_body() {
    let (address, posted) = serve(|number, body| match number {
        0 | 1 => (500, String::new()),
        _ => accept(number, body),
    });
    let (report, _) = run_simulation(address, &["--events", "0", "--retries", "2"]).await.unwrap();
    let bodies: Vec<Value> = posted.try_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies.len(), 5);
    assert!(bodies[0] == bodies[1] && bodies[1] == bodies[2] && bodies[2] != bodies[3]);
    assert_eq!(report["events"]["sent"], 3);
    assert_eq!(report["events"]["acknowledged"], 3);
    assert_eq!(report["events"]["retries"], 2);
}

#[tokio::test]
async fn slow_response_counts_as_timeout() {
    let (address, _posted) = serve(|number, body| match number {
        0 => (0, String::new()),
        _ => accept(number, body),
    });
    let (report, _) = run_simulation(address, &["--events", "0", "--timeout", "2s"]).await.unwrap();
    assert_eq!(report["failures"][0]["name"], "no answer in time");
    assert_eq!(report["events"]["acknowledged"], 2);
}

#[tokio::test]
async fn run_ends_at_time_limit() {
    let (address, _posted) = serve(|_, _| (0, String::new()));
    let file = tempfile::NamedTempFile::new().unwrap();
    let record = ["--record", file.path().to_str().unwrap()];
    let arguments = ["--max-duration", "200ms", "--calls", "1000000", "--timeout", "60s"];
    let arguments = [&arguments[..], &record[..]].concat();
    let start = Instant::now();
    let (report, _) = run_simulation(address, &arguments).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(report["stopped"], "time limit reached");
    assert_eq!(report["events"]["cut_off"], report["events"]["sent"]);
    assert_eq!(std::fs::metadata(file.path()).unwrap().len(), 0);
}

#[tokio::test]
async fn calls_start_at_configured_rate() {
    let (address, _posted) = serve(accept);
    let start = Instant::now();
    let arguments = ["--calls", "11", "--events", "0", "--rate", "20"];
    let (report, _) = run_simulation(address, &arguments).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(500));
    assert_eq!(report["calls"]["finished"], 11);
}

#[tokio::test]
async fn run_stops_on_signal() {
    let (address, posted) = serve(accept);
    let url = format!("http://{address}/");
    let arguments = [&*url, "--quiet", "--calls", "2", "--event-interval", "1h"];
    let stop = async move {
        let next = move |_| posted.recv_timeout(Duration::from_secs(60)).unwrap();
        let both = move || [(), ()].map(next);
        tokio::task::spawn_blocking(both).await.unwrap();
        // Waits for the answers, because no signal marks their arrival.
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let (report, _) = parse(&arguments).unwrap().play(stop).await.unwrap();
    let report = serde_json::to_value(report).unwrap();
    assert_eq!(report["stopped"], "interrupted");
    assert_eq!(report["calls"]["finished"], 0);
    assert_eq!(report["events"]["acknowledged"], 2);
}

#[tokio::test]
async fn unreachable_server_fails_immediately() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = run_simulation(free, &["--calls", "1000000"]).await.unwrap_err().to_string();
    let expected =
        format!("cannot connect to http://{free}/events: refused; start the server with ");
    assert!(error.starts_with(&expected), "{error}");
}

#[tokio::test]
async fn unwritable_record_ends_the_run() {
    let (address, _posted) = serve(accept);
    let (report, error) = run_simulation(address, &["--record", "/dev/full"]).await.unwrap();
    assert!(format!("{:#}", error.unwrap()).starts_with("cannot write /dev/full: "));
    assert_eq!(report["events"]["sent"], 1);
    let error = run_simulation(address, &["--record", "/nowhere/at/all"]).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot write /nowhere/at/all");
}

#[test]
fn invalid_arguments_are_rejected() {
    for bad in [
        ["--calls", "0"],
        ["--calls", "1000001"],
        ["--rate", "0"],
        ["--rate", "NaN"],
        ["--concurrency", "0"],
        ["--concurrency", "10001"],
        ["--event-interval", "5"],
        ["--max-duration", "0s"],
        ["--secret", "a\nb"],
        ["--quiet", "ftp://127.0.0.1/"],
        ["--quiet", "nonsense"],
    ] {
        let error = parse(&bad).err().unwrap_or_else(|| panic!("{bad:?} is accepted"));
        assert_eq!(error.exit_code(), 2, "{bad:?}");
    }
    let simulate = parse(&["--event-interval", "100ms", "--to", "1", "--to", "2"]).unwrap();
    assert_eq!(simulate.event_interval, Duration::from_millis(100));
    assert_eq!(simulate.to, ["1", "2"]);
    assert_eq!(simulate.url.as_str(), "http://127.0.0.1:9000/events");
}
