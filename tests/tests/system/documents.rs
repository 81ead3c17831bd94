//! Hostile and unusual documents: each is accepted, or rejected with a reason, without an
//! effect on other requests.

mod load;
mod types;

use std::time::Duration;

use serde_json::{Value, json};
use tests::{
    Collector, PluginFolder, ROUTING_GUEST, Server, ServerBuilder, ServerResponse,
    blackbox_document, blackbox_fixture,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Time that the platform waits for a response.
const PLATFORM_TIMEOUT: Duration = Duration::from_secs(5);

/// Setting of the observer: it sends the length and checksum of reports.
const MEASURE_REPORTS: &str = "report = 'measured'\n";

/// Returns the length and checksum that the observer sends for a report.
fn measure(text: &str) -> Value {
    let checksum = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    json!({"length": text.len(), "checksum": checksum})
}

/// Checks that a document was rejected in time, and returns the error message.
fn rejection_message(answer: &ServerResponse) -> &str {
    assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!("bad_request")));
    assert!(answer.elapsed < PLATFORM_TIMEOUT, "{:?}", answer.elapsed);
    answer.body["error"]["message"].as_str().unwrap()
}

/// Posts a head and parts of a body until the server stops reading. Returns the start of
/// the response.
async fn post_raw(server: &Server, head: &str, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(server.webhook_address()).await.unwrap();
    let head = format!("POST /blackbox HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for part in parts {
        if stream.write_all(part).await.is_err() {
            break;
        }
    }
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

async fn post_chunked(server: &Server, body: &[u8]) -> String {
    let chunk = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    let mut parts: Vec<Vec<u8>> = body.chunks(60_000).map(chunk).collect();
    parts.push(b"0\r\n\r\n".to_vec());
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    post_raw(server, "Transfer-Encoding: chunked", &parts).await
}

/// Returns a report of this length in bytes, with a filler in another field.
fn report(call: &str, length: usize) -> String {
    let mut document = blackbox_document("completed.json", call);
    document["recording"] = json!("");
    let missing = length - document.to_string().len();
    // The filler consists of different words.
    let text = (0..).map(|nth: usize| format!("{:x} ", nth.wrapping_mul(2_654_435_761) % 97_861));
    let mut filler = String::with_capacity(missing + 8);
    text.take_while(|word| {
        filler.push_str(word);
        filler.len() < missing
    })
    .for_each(drop);
    filler.truncate(missing);
    document["recording"] = json!(filler);
    let document = document.to_string();
    assert_eq!(document.len(), length);
    document
}

#[tokio::test]
async fn large_report_is_accepted_and_delivered_whole() {
    let collector = Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, MEASURE_REPORTS);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    for (call, length) in [("ten", 10_000_000), ("most", 16 << 20)] {
        let report = report(call, length);
        let answer = server.post_blackbox(report.clone()).await;
        assert_eq!((answer.status, &answer.body), (200, &json!({"status": "ok"})), "{length}");
        assert!(answer.elapsed < PLATFORM_TIMEOUT, "{:?}", answer.elapsed);
        println!("a report of {length} bytes was accepted in {:?}", answer.elapsed);
        let is_end = |event: &Value| event["kind"] == "ended" && event["call"] == call;
        let events = collector.wait_for(|events| events.iter().any(is_end)).await;
        let end = events.iter().find(|event| is_end(event)).unwrap();
        assert_eq!(end["detail"]["report"], measure(&report));
    }
    println!("peak memory: {} MiB", server.peak_memory() >> 20);
    assert_eq!(collector.event_kinds("ten"), ["transcription", "transcription", "ended"]);
}

#[tokio::test]
async fn oversized_body_is_rejected() {
    let folder = PluginFolder::new();
    let limit = 2 << 20;
    let setup = ServerBuilder::new(folder.path()).enable_blackbox();
    let server = setup.env("PLUGBOARD_BLACKBOX_MAX_BODY", "2MiB").start();
    assert_eq!(server.post_blackbox(report("c", limit)).await.status, 200);
    assert!(
        post_chunked(&server, report("c", limit).as_bytes()).await.starts_with("HTTP/1.1 200 ")
    );
    let answer = post_raw(&server, &format!("Content-Length: {}", limit + 1), &[]).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("body_too_large") && answer.contains("blackbox.max_body"), "{answer}");
    let answer = post_chunked(&server, report("c", limit + 1).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // AVR has its own limit of the body.
    assert_eq!(server.post(" ".repeat((1 << 20) + 1)).await.status, 413);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let answer = post_raw(&server, &format!("Content-Length: {}", (16 << 20) + 1), &[]).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

/// A body of unknown length, a body in two parts, and a body that does not arrive.
#[tokio::test]
async fn body_may_arrive_in_parts_within_timeout() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        .env("PLUGBOARD_BLACKBOX_BODY_TIMEOUT", "3s")
        .start();
    let start = blackbox_fixture("start.json");
    let answer = post_chunked(&server, start.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("{\"accept\":true}"),
        "{answer}"
    );
    let head = format!("Content-Length: {}", start.len());
    let (first, rest) = start.split_at(100);
    let answer = post_raw(&server, &head, &[first.as_bytes(), rest.as_bytes()]).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = post_raw(&server, &head, &[first.as_bytes()]).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("blackbox.body_timeout"), "{answer}");
}

/// Returns a report with this number of transcript entries, each with its own time.
fn transcript(call: &str, entries: usize) -> String {
    let mut document = blackbox_document("completed.json", call);
    let entry = |nth: usize| {
        let speaker = if nth.is_multiple_of(2) { "assistant" } else { "user" };
        json!({"speaker": speaker, "text": format!("sentence {nth}"), "startTime": entry_time(nth)})
    };
    document["transcription"] = (0..entries).map(entry).collect();
    document.to_string()
}

/// Returns the start time of an entry, one second after that of the previous entry.
fn entry_time(nth: usize) -> String {
    format!("2025-10-20T{:02}:{:02}:{:02}.000Z", 1 + nth / 3_600, nth / 60 % 60, nth % 60)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_transcripts_are_delivered_entry_by_entry_in_order() {
    let collector = Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, MEASURE_REPORTS);
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let mut before = 0;
    // At most 10,000 entries become events. The report has all of them.
    for (call, entries, delivered) in [("five", 5_000, 5_000), ("twenty", 20_000, 10_000)] {
        let report = transcript(call, entries);
        let answer = server.post_blackbox(report.clone()).await;
        assert_eq!((answer.status, &answer.body), (200, &json!({"status": "ok"})));
        assert!(answer.elapsed < PLATFORM_TIMEOUT, "{:?}", answer.elapsed);
        let start = std::time::Instant::now();
        let all = collector.wait_for_count(before + delivered + 1).await.split_off(before);
        println!(
            "{entries} entries ({} bytes) were accepted in {:?} and delivered in {:?}",
            report.len(),
            answer.elapsed,
            start.elapsed()
        );
        before += delivered + 1;
        assert_eq!(all.len(), delivered + 1);
        let (end, all) = all.split_last().unwrap();
        for (nth, it) in all.iter().enumerate() {
            assert_eq!((&it["kind"], &it["call"]), (&json!("transcription"), &json!(call)));
            assert_eq!(it["detail"]["text"], format!("sentence {nth}"));
            assert_eq!(it["timestamp"], entry_time(nth));
        }
        assert_eq!((&end["kind"], &end["call"]), (&json!("ended"), &json!(call)));
        assert_eq!(end["detail"]["report"], measure(&report));
    }
    let log = server.wait_for_log(|line| line["entries"] == 20_000);
    assert_eq!((&log["level"], &log["limit"]), (&json!("WARN"), &json!(10_000)));
}

#[tokio::test]
async fn deeply_nested_document_is_rejected_early() {
    let collector = Collector::start().await;
    let folder = PluginFolder::with_every_hook(&collector, MEASURE_REPORTS);
    let mut server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let nested = |depth: usize, [open, close]: [&str; 2]| {
        // The document itself is one level.
        let (open, close) = (open.repeat(depth - 1), close.repeat(depth - 1));
        format!("{open}1{close}")
    };
    let (arrays, objects) = (["[", "]"], ["{\"a\":", "}"]);
    for kind in [arrays, objects] {
        for place in ["new", "arguments", "callAdditionalData", "transcription", "result"] {
            for file in ["tool.json", "failed.json"] {
                let body = |depth| {
                    let mut document = blackbox_document(file, &format!("{place} {}", kind[0]));
                    document[place] = json!("@");
                    document.to_string().replace("\"@\"", &nested(depth, kind))
                };
                for depth in [65, 100_000] {
                    let answer = server.post_blackbox(body(depth)).await;
                    let reason = rejection_message(&answer);
                    assert!(reason.contains("nested deeper than 64"), "{file} {place}: {reason}");
                }
                let answer = server.post_blackbox(body(64)).await;
                assert!([200, 400].contains(&answer.status), "{answer:?}");
                assert!(!answer.text.contains("nested"), "{answer:?}");
            }
        }
        for depth in [100_000, 2_000_000] {
            for body in [nested(depth, kind), kind[0].repeat(depth)] {
                let answer = server.post_blackbox(body).await;
                assert!(rejection_message(&answer).contains("nested deeper than 64"));
            }
        }
    }
    let mut document = blackbox_document("failed.json", "deepest");
    document["new"] = json!("@");
    let body = document.to_string().replace("\"@\"", &nested(5_000_000, arrays));
    let answer = server.post_blackbox(body).await;
    assert!(rejection_message(&answer).contains("nested deeper than 64"));
    println!("5,000,000 levels were rejected in {:?}", answer.elapsed);
    // Brackets in a string are no nesting.
    let text = blackbox_fixture("start.json").replace("Queued", &"[{".repeat(100_000));
    assert_eq!(server.post_blackbox(text).await.status, 200);
    server.stop();
}
