//! Starting, stopping, and connections that misbehave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::{
    PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, Server, ServerBuilder, call_initiated,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.webhook_address()).await.unwrap()
}

/// Reads until the server closes the connection. Returns the text and the elapsed time.
async fn read_until_close(stream: &mut TcpStream) -> (String, Duration) {
    let start = Instant::now();
    let mut text = Vec::new();
    // A reset also ends the connection.
    _ = stream.read_to_end(&mut text).await;
    (String::from_utf8_lossy(&text).into_owned(), start.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_are_finished_on_sigterm() {
    let folder = PluginFolder::new()
        .with_guest("10-spins", "spins")
        .with_settings("10-spins", "[limits]\ntimeout = '1s'\n")
        .with_guest("20-good", ROUTING_GUEST);
    let mut server = ServerBuilder::new(folder.path()).start();
    let address = server.webhook_address().to_owned();
    let body = call_initiated();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request =
        format!("POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    server.wait_for_guests(1).await;
    server.send_sigterm();
    server.wait_for_log(|line| line["signal"] == "SIGTERM");
    let (answer, _) = read_until_close(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(ROUTING_GUEST_URL), "{answer}");
    assert!(server.wait_for_exit(), "the server failed to stop:\n{}", server.log_text());
    server.wait_for_log(|line| line["message"] == "stopped");
    assert!(TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn idle_connection_does_not_delay_shutdown() {
    let folder = PluginFolder::new();
    let mut server = ServerBuilder::new(folder.path()).start();
    let mut idle = connect(&server).await;
    assert_eq!(server.get("/health").await.status, 200);
    server.send_sigterm();
    let (_, elapsed) = read_until_close(&mut idle).await;
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    assert!(server.wait_for_exit());
}

/// At the limit of open files, the listener logs one line, and accepts connections again
/// when files are closed.
#[tokio::test]
async fn listener_recovers_from_open_file_limit() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    assert_eq!(server.route_call().await.as_deref(), Some(ROUTING_GUEST_URL));
    server.limit_open_files(10);
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(connect(&server).await);
    }
    let count_errors = |text: &str| text.matches("cannot accept connections").count();
    server.wait_for_log(|line| count_errors(line["message"].as_str().unwrap_or_default()) > 0);
    // The listener retries about twenty times within this second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(count_errors(&server.log_text()), 1);
    drop(streams);
    assert_eq!(server.route_call().await.as_deref(), Some(ROUTING_GUEST_URL));
}

#[tokio::test]
async fn slow_senders_are_disconnected() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_LIMITS_HEADER_TIMEOUT", "2s")
        .env("PLUGBOARD_LIMITS_BODY_TIMEOUT", "2s")
        .start();
    let mut half_a_head = connect(&server).await;
    half_a_head.write_all(b"POST /events HTTP/1.1\r\nHost:").await.unwrap();
    let mut half_a_body = connect(&server).await;
    let head = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
    half_a_body.write_all(head).await.unwrap();
    let mut idle = connect(&server).await;
    let ((_, head), (answer, body), (_, idle)) = tokio::join!(
        read_until_close(&mut half_a_head),
        read_until_close(&mut half_a_body),
        read_until_close(&mut idle)
    );
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    for elapsed in [head, body, idle] {
        assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
    }
    // A keep-alive connection serves several requests in sequence.
    let client = tests::client();
    for _ in 0..3 {
        let answer = server.post_with_client(&client, &[], call_initiated()).await;
        assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL));
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let setup = ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_MAX_CONNECTIONS", "2");
    let server = Arc::new(setup.start());
    let open = [connect(&server).await, connect(&server).await];
    let waiting = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.post(call_initiated()).await }
    });
    // The admin listener has its own limit.
    assert_eq!(server.admin_get("/livez").await.status, 200);
    assert!(!waiting.is_finished());
    drop(open);
    assert_eq!(waiting.await.unwrap().sts_url(), Some(ROUTING_GUEST_URL));
}

#[tokio::test]
async fn admin_api_lists_plugins_and_requires_token() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server =
        ServerBuilder::new(folder.path()).env("PLUGBOARD_ADMIN_TOKEN", "open-sesame").start();
    server.post(call_initiated()).await;
    for wrong in
        [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", "open-sesame")]]
    {
        assert_eq!(server.admin_get_with_headers("/plugins", wrong).await.status, 401);
    }
    let token = [("authorization", "Bearer open-sesame")];
    let listing = server.admin_get_with_headers("/plugins", &token).await.body;
    assert_eq!(listing["generation"], 1);
    let plugin = &listing["plugins"][0];
    assert_eq!(plugin["name"], "10-good");
    assert_eq!(plugin["state"], "active");
    assert_eq!(plugin["exports"], json!(["router"]));
    assert_eq!((&plugin["calls"], &plugin["failures"]), (&json!(1), &json!(0)));
    assert!(plugin["file"].as_str().unwrap().ends_with("/10-good.wasm"));
    assert_eq!(plugin["digest"].as_str().unwrap().len(), 64);
    assert!(plugin["size"].as_u64().unwrap() > 1000);
    assert!(plugin["latency_us"]["max"].as_u64().unwrap() > 0);
    assert_eq!(plugin["last_error"], json!(null));
    // The probes need no token.
    for probe in ["/livez", "/readyz"] {
        let answer = server.admin_get(probe).await;
        assert_eq!((answer.status, answer.body), (200, json!({"status": "ok"})), "{probe}");
    }
}
