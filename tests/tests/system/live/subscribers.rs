//! Those who read: how many, how slow they may be, and when it ends.

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
async fn an_erased_call_is_not_shown_any_more() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    for call in ["one", "two"] {
        server.post(call_initiated_for(call, "5001")).await;
        post(&server, user_transcription(call, 0, "hello")).await;
    }
    let mut stream = Stream::open(&server, "").await;
    stream.past().await;
    assert_eq!(server.admin_delete("/calls/one", &[]).await.status, 200);
    let erased = stream.next().await.unwrap();
    assert_eq!(erased.0, "erased");
    assert_eq!(erased.1, json!({"call": "one", "platforms": ["avr", "dsai", "blackbox"]}));
    let known = calls(&server).await;
    assert_eq!((known.len(), &known[0]["call"]), (1, &json!("two")));
    let past = Stream::open(&server, "").await.past().await;
    assert_eq!(past.len(), 4);
    // Who was away still shows it, and is told that as well.
    let of_it = past.iter().filter(|(_, told)| told["call"] == "one");
    assert_eq!(of_it.map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["erased"]);
    // What comes of it later is new.
    post(&server, user_transcription("one", 1, "hello")).await;
    assert_eq!(calls(&server).await[0]["timeline"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn there_is_room_for_sixteen_readers() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path()).start();
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(Stream::open(&server, "").await);
    }
    let refused = server.admin_get("/live").await;
    let code = &refused.body["error"]["code"];
    assert_eq!((refused.status, code), (503, &json!("too_many_readers")));
    // Who goes makes room, once that is noticed.
    drop(streams.pop());
    let url = format!("http://{}/live", server.admin_address());
    let noticed = async {
        while tests::client().get(&url).send().await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, noticed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_up_nobody_and_is_told_what_it_missed() {
    const DELIVERIES: u64 = 200;
    const ENTRIES: u64 = 255;
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        // Or it would be let go, on a busy machine.
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
        // Which takes what is on its way.
        assert_eq!(server.admin_get("/calls").await.body["dropped"], 0);
    }
    let (mut text, mut piece) = (String::new(), vec![0; 1 << 16]);
    // The gap is reported where it is, and the newest messages follow.
    let (told, missed) = loop {
        let size = timeout(PATIENCE, slow.read(&mut piece)).await.unwrap().unwrap();
        assert!(size > 0, "let go");
        text.push_str(std::str::from_utf8(&piece[..size]).unwrap());
        let told = text.matches("event: event\n").count();
        let gaps = text.split("event: missed\ndata: ").skip(1);
        let missed: u64 = gaps
            .filter_map(|gap| gap.split_once('\n'))
            .map(|(data, _)| serde_json::from_str::<Value>(data).unwrap())
            .map(|data| data["count"].as_u64().unwrap())
            .sum();
        if u64::try_from(told).unwrap() + missed >= DELIVERIES * (ENTRIES + 1) {
            break (told, missed);
        }
    };
    assert!(missed > 0);
    assert_eq!(u64::try_from(told).unwrap() + missed, DELIVERIES * (ENTRIES + 1));
}

#[tokio::test]
async fn streams_end_at_once_when_the_service_stops() {
    let folder = PluginFolder::new();
    let mut server = ServerBuilder::new(folder.path()).start();
    let mut stream = Stream::open(&server, "").await;
    stream.past().await;
    let start = Instant::now();
    server.send_sigterm();
    assert!(stream.next().await.is_none());
    assert!(server.wait_for_exit());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(!server.log_text().contains("stopping with requests in flight"));
}
