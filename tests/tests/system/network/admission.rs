//! Who may send to the webhook listener, and how much.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{
    PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, Server, ServerBuilder, ServerResponse,
    call_initiated,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client that sends from this address.
fn from(address: &str) -> reqwest::Client {
    // Sets the provider.
    _ = tests::client();
    let builder = reqwest::Client::builder().tls_certs_only([]).timeout(Duration::from_secs(60));
    builder.local_address(Some(address.parse().unwrap())).build().unwrap()
}

async fn post(server: &Server, client: &reqwest::Client, forwarded: &[&str]) -> ServerResponse {
    let headers: Vec<_> = forwarded.iter().map(|line| ("x-forwarded-for", *line)).collect();
    server.post_with_client(client, &headers, call_initiated()).await
}

/// The status, and the error's code if it is one.
fn outcome(answer: &ServerResponse) -> (u16, &str) {
    (answer.status, answer.body["error"]["code"].as_str().unwrap_or_default())
}

const REFUSED: (u16, &str) = (403, "sender_not_allowed");
const TOO_MANY: (u16, &str) = (429, "too_many_requests");
const NOT_ALLOWED: &str = "plugboard_refused_senders_total{reason=\"not_allowed\"}";
const OVER_RATE: &str = "plugboard_refused_senders_total{reason=\"rate\"}";

async fn health(server: &Server, client: &reqwest::Client) -> u16 {
    let url = format!("http://{}/health", server.webhook_address());
    client.get(url).send().await.unwrap().status().as_u16()
}

/// Ends the program; what it said of refusals.
fn refused_lines(mut server: Server) -> Vec<Value> {
    let text = server.stop();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"].as_str().unwrap().contains("are refused")).collect()
}

#[tokio::test]
async fn only_senders_on_the_list_are_served() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_SENDERS_ALLOW", "127.0.0.1, 2001:db8::/32")
        .env("PLUGBOARD_SECRET", "s3cret")
        .start();
    let (allowed, other) = (from("127.0.0.1"), from("127.0.0.2"));
    let secret = [("x-avr-webhook-secret", "s3cret")];
    let answer = server.post_with_client(&allowed, &secret, call_initiated()).await;
    assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL));
    // Asked for the secret once it is known who asks, and not before.
    assert_eq!(post(&server, &allowed, &[]).await.status, 401);
    assert_eq!(outcome(&post(&server, &other, &[]).await), REFUSED);
    assert_eq!(outcome(&server.post_with_client(&other, &secret, call_initiated()).await), REFUSED);
    // Nobody is believed who is no proxy.
    assert_eq!(outcome(&post(&server, &other, &["127.0.0.1"]).await), REFUSED);
    assert_eq!(outcome(&post(&server, &other, &["2001:db8::1"]).await), REFUSED);
    assert_eq!(post(&server, &allowed, &["203.0.113.9"]).await.status, 401);
    // Other paths are no way around.
    for path in ["instructions", "nowhere", "health/", "/health"] {
        let url = format!("http://{}/{path}", server.webhook_address());
        assert_eq!(other.get(url).send().await.unwrap().status().as_u16(), 403, "{path}");
    }
    assert_eq!(health(&server, &other).await, 200);
    assert_eq!(server.metric_value(NOT_ALLOWED).await, Some(8));
    assert_eq!(server.metric_value(OVER_RATE).await, Some(0));
    let refused = "plugboard_http_requests_total{listener=\"webhooks\",status=\"403\"}";
    assert_eq!(server.metric_value(refused).await, Some(8));
    let lines = refused_lines(server);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["level"], &lines[0]["sender"]), (&"WARN".into(), &"127.0.0.2".into()));
    assert_eq!(lines[0]["refused"], 1);
}

#[tokio::test]
async fn a_stranger_is_refused_before_the_body_comes() {
    let folder = PluginFolder::new();
    let server =
        ServerBuilder::new(folder.path()).env("PLUGBOARD_SENDERS_ALLOW", "127.0.0.2").start();
    let mut stream = TcpStream::connect(server.webhook_address()).await.unwrap();
    let head = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn a_trusted_proxy_names_the_sender() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_SENDERS_ALLOW", "203.0.113.0/24")
        .env("PLUGBOARD_SENDERS_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8")
        .start();
    let proxy = from("127.0.0.1");
    for lines in [
        &["203.0.113.9"][..],
        &["203.0.113.9:5678"],
        &["::ffff:203.0.113.9"],
        &["198.51.100.1, 203.0.113.9"],
        &["198.51.100.1", "203.0.113.9", "10.0.0.2"],
        &["rubbish, 203.0.113.9, 10.0.0.2"],
    ] {
        assert_eq!(
            post(&server, &proxy, lines).await.sts_url(),
            Some(ROUTING_GUEST_URL),
            "{lines:?}"
        );
    }
    let expected: [&[&str]; 6] = [
        &["198.51.100.1"],
        // The sender wrote the first one itself.
        &["203.0.113.9, 198.51.100.1"],
        &["203.0.113.9", "198.51.100.1"],
        &["203.0.113.9, rubbish"],
        &["rubbish"],
        &[],
    ];
    for lines in expected {
        assert_eq!(outcome(&post(&server, &proxy, lines).await), REFUSED, "{lines:?}");
    }
    // Who is no proxy may say what it likes.
    let other = from("127.0.0.2");
    assert_eq!(outcome(&post(&server, &other, &["203.0.113.9"]).await), REFUSED);
    assert_eq!(health(&server, &proxy).await, 200);
    assert_eq!(server.metric_value(NOT_ALLOWED).await, Some(7));
}

#[tokio::test]
async fn a_proxy_that_names_nobody_is_told_of() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_SENDERS_ALLOW", "203.0.113.0/24")
        .env("PLUGBOARD_SENDERS_TRUSTED_PROXIES", "127.0.0.0/8")
        .start();
    assert_eq!(outcome(&server.post(call_initiated()).await), REFUSED);
    let lines = refused_lines(server);
    assert_eq!(lines.len(), 1);
    assert!(lines[0]["message"].as_str().unwrap().contains("X-Forwarded-For"), "{lines:?}");
    assert_eq!(lines[0]["peer"], "127.0.0.1");
}

#[tokio::test]
async fn each_sender_has_a_rate() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_SENDERS_RATE", "1")
        .env("PLUGBOARD_SENDERS_BURST", "4")
        .start();
    let (one, other) = (from("127.0.0.1"), from("127.0.0.2"));
    let begun = Instant::now();
    let mut answered = 0;
    // The header opens no new account.
    let refusal = loop {
        let answer = post(&server, &one, &[&format!("203.0.113.{answered}")]).await;
        if answer.status != 200 {
            break answer;
        }
        answered += 1;
    };
    let earned = usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!((4..=4 + earned).contains(&answered), "{answered} in {:?}", begun.elapsed());
    assert_eq!(outcome(&refusal), TOO_MANY);
    assert_eq!(refusal.headers["retry-after"], "1");
    assert_eq!(post(&server, &other, &[]).await.sts_url(), Some(ROUTING_GUEST_URL));
    for _ in 0..20 {
        assert_eq!(health(&server, &one).await, 200);
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    while post(&server, &one, &[]).await.sts_url() != Some(ROUTING_GUEST_URL) {
        assert!(Instant::now() < deadline, "never again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(server.metric_value(OVER_RATE).await.unwrap() >= 1);
    assert_eq!(server.metric_value(NOT_ALLOWED).await, Some(0));
    let lines = refused_lines(server);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["sender"], "127.0.0.1");
}

#[tokio::test]
async fn senders_behind_a_proxy_have_each_a_rate() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_SENDERS_TRUSTED_PROXIES", "127.0.0.1")
        .env("PLUGBOARD_SENDERS_RATE", "1")
        .start();
    let proxy = from("127.0.0.1");
    let begun = Instant::now();
    let mut statuses = Vec::new();
    for lines in [
        &["203.0.113.9"][..],
        &["203.0.113.9"],
        &["203.0.113.10"],
        &["2001:db8::1"],
        &["2001:db8::2"],
        &["2001:db8:0:1::1"],
        // These are the proxy's own.
        &["rubbish"],
        &[],
    ] {
        statuses.push(post(&server, &proxy, lines).await.status);
    }
    // None has earned another one meanwhile, unless the machine is very slow.
    if begun.elapsed() < Duration::from_millis(900) {
        assert_eq!(statuses, [200, 429, 200, 200, 429, 200, 200, 429]);
    }
}

#[tokio::test]
async fn without_a_word_everybody_is_served() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    let client = from("127.0.0.2");
    for _ in 0..200 {
        assert_eq!(post(&server, &client, &["rubbish"]).await.sts_url(), Some(ROUTING_GUEST_URL));
    }
    assert_eq!(server.metric_value(NOT_ALLOWED).await, Some(0));
}
