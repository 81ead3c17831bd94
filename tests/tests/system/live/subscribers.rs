//! Subscribers of the live feed: erased calls, their limit, slow ones, and shutdown.

use std::time::Instant;

use serde_json::{Value, json};
use tests::{
    PluginFolder, ROUTING_GUEST, ServerBuilder, blackbox_document, call_initiated_for,
    user_transcription,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::{Duration, timeout};

use super::{PATIENCE, Stream, calls, post};

#[tokio::test]
async fn erased_call_disappears_from_feed_and_list() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    for call in ["one", "two"] {
        server.post(call_initiated_for(call, "5001")).await;
        post(&server, user_transcription(call, 0, "hello")).await;
    }
    let mut stream = Stream::open(&server, "").await;
    stream.read_history().await;
    assert_eq!(server.admin_delete("/calls/one", &[]).await.status, 200);
    let erased = stream.next().await.unwrap();
    assert_eq!(erased.0, "erased");
    assert_eq!(erased.1, json!({"call": "one", "platforms": ["avr", "dsai", "blackbox"]}));
    let listed = calls(&server).await;
    assert_eq!((listed.len(), &listed[0]["call"]), (1, &json!("two")));
    let past = Stream::open(&server, "").await.read_history().await;
    assert_eq!(past.len(), 4);
    // The history also reports the erasure, for pages that still show the call.
    let of_call = past.iter().filter(|(_, received)| received["call"] == "one");
    assert_eq!(of_call.map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["erased"]);
    // A later event of the call starts a new timeline.
    post(&server, user_transcription("one", 1, "hello")).await;
    assert_eq!(calls(&server).await[0]["timeline"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn live_feed_accepts_sixteen_subscribers() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path()).start();
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(Stream::open(&server, "").await);
    }
    let rejected = server.admin_get("/live").await;
    let code = &rejected.body["error"]["code"];
    assert_eq!((rejected.status, code), (503, &json!("too_many_subscribers")));
    // A closed stream frees its slot when the server notices that.
    drop(streams.pop());
    let url = format!("http://{}/live", server.admin_address());
    let reopened = async {
        while tests::client().get(&url).send().await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reopened).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_subscriber_delays_no_request_and_gets_missed_count() {
    const DELIVERIES: u64 = 200;
    const ENTRIES: u64 = 255;
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        // With a shorter timeout, a busy machine could close the stream.
        .env("PLUGBOARD_LIMITS_HEADER_TIMEOUT", "5m")
        .start();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut slow = socket.connect(server.admin_address().parse().unwrap()).await.unwrap();
    let head = format!("GET /live HTTP/1.1\r\nHost: {}\r\n\r\n", server.admin_address());
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    slow.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let transcript = |nth: u64| {
        let mut document = blackbox_document("completed.json", &format!("call-{nth}"));
        let entry = json!({"speaker": "user", "text": "x".repeat(50)});
        document["transcription"] = vec![entry; usize::try_from(ENTRIES).unwrap()].into();
        document.to_string()
    };
    for nth in 0..DELIVERIES {
        assert_eq!(server.post_blackbox(transcript(nth)).await.status, 200);
        // This request processes all pending activity, so the server drops none.
        assert_eq!(server.admin_get("/calls").await.body["dropped"], 0);
    }
    let (mut text, mut piece) = (String::new(), vec![0; 1 << 16]);
    // The gap is reported where it is, and the newest messages follow.
    let (received, missed) = loop {
        let size = timeout(PATIENCE, slow.read(&mut piece)).await.unwrap().unwrap();
        assert!(size > 0, "the server closed the stream");
        text.push_str(std::str::from_utf8(&piece[..size]).unwrap());
        let received = text.matches("event: event\n").count();
        let gaps = text.split("event: missed\ndata: ").skip(1);
        let missed: u64 = gaps
            .filter_map(|gap| gap.split_once('\n'))
            .map(|(data, _)| serde_json::from_str::<Value>(data).unwrap())
            .map(|data| data["count"].as_u64().unwrap())
            .sum();
        if u64::try_from(received).unwrap() + missed >= DELIVERIES * (ENTRIES + 1) {
            break (received, missed);
        }
    };
    assert!(missed > 0);
    assert_eq!(u64::try_from(received).unwrap() + missed, DELIVERIES * (ENTRIES + 1));
}

#[tokio::test]
async fn streams_end_when_server_stops() {
    let folder = PluginFolder::new();
    let mut server = ServerBuilder::new(folder.path()).start();
    let mut stream = Stream::open(&server, "").await;
    stream.read_history().await;
    let start = Instant::now();
    server.send_sigterm();
    assert!(stream.next().await.is_none());
    assert!(server.wait_for_exit());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(!server.log_text().contains("stopping with requests in flight"));
}
