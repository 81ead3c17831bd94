//! Admission control of the webhook listener: allowed networks, proxies and rate limits.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{
    PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, Server, ServerBuilder, ServerResponse,
    call_initiated,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Creates a client that sends from this address.
fn client_from(address: &str) -> reqwest::Client {
    // This call installs the TLS provider.
    _ = tests::client();
    let builder = reqwest::Client::builder().tls_certs_only([]).timeout(Duration::from_secs(60));
    builder.local_address(Some(address.parse().unwrap())).build().unwrap()
}

async fn post(server: &Server, client: &reqwest::Client, forwarded: &[&str]) -> ServerResponse {
    let headers: Vec<_> = forwarded.iter().map(|line| ("x-forwarded-for", *line)).collect();
    server.post_with_client(client, &headers, call_initiated()).await
}

/// Returns the status, and the code if the answer is an error.
fn outcome(answer: &ServerResponse) -> (u16, &str) {
    (answer.status, answer.body["error"]["code"].as_str().unwrap_or_default())
}

const FORBIDDEN: (u16, &str) = (403, "ip_not_allowed");
const TOO_MANY: (u16, &str) = (429, "too_many_requests");
const NOT_ALLOWED: &str = "plugboard_http_requests_rejected_total{reason=\"ip_not_allowed\"}";
const OVER_RATE: &str = "plugboard_http_requests_rejected_total{reason=\"rate_limited\"}";

async fn health(server: &Server, client: &reqwest::Client) -> u16 {
    let url = format!("http://{}/health", server.webhook_address());
    client.get(url).send().await.unwrap().status().as_u16()
}

/// Stops the server, and returns its log lines about rejected requests.
fn stop_and_read_rejections(mut server: Server) -> Vec<Value> {
    let text = server.stop();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"].as_str().unwrap().contains("requests rejected")).collect()
}

#[tokio::test]
async fn only_allowed_networks_are_served() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_INGRESS_ALLOWED_NETWORKS", "127.0.0.1, 2001:db8::/32")
        .env("PLUGBOARD_SECRET", "s3cret")
        .start();
    let (allowed, other) = (client_from("127.0.0.1"), client_from("127.0.0.2"));
    let secret = [("x-avr-webhook-secret", "s3cret")];
    let answer = server.post_with_client(&allowed, &secret, call_initiated()).await;
    assert_eq!(answer.sts_url(), Some(ROUTING_GUEST_URL));
    // The server checks the address before the secret.
    assert_eq!(post(&server, &allowed, &[]).await.status, 401);
    assert_eq!(outcome(&post(&server, &other, &[]).await), FORBIDDEN);
    assert_eq!(
        outcome(&server.post_with_client(&other, &secret, call_initiated()).await),
        FORBIDDEN
    );
    // `X-Forwarded-For` counts only if a trusted proxy sends it.
    assert_eq!(outcome(&post(&server, &other, &["127.0.0.1"]).await), FORBIDDEN);
    assert_eq!(outcome(&post(&server, &other, &["2001:db8::1"]).await), FORBIDDEN);
    assert_eq!(post(&server, &allowed, &["203.0.113.9"]).await.status, 401);
    // The list applies to all other paths as well.
    for path in ["instructions", "nowhere", "health/", "/health"] {
        let url = format!("http://{}/{path}", server.webhook_address());
        assert_eq!(other.get(url).send().await.unwrap().status().as_u16(), 403, "{path}");
    }
    assert_eq!(health(&server, &other).await, 200);
    assert_eq!(server.metric_value(NOT_ALLOWED).await, Some(8));
    assert_eq!(server.metric_value(OVER_RATE).await, Some(0));
    let forbidden = "plugboard_http_requests_total{listener=\"webhooks\",status=\"403\"}";
    assert_eq!(server.metric_value(forbidden).await, Some(8));
    let lines = stop_and_read_rejections(server);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["level"], &lines[0]["sender"]), (&"WARN".into(), &"127.0.0.2".into()));
    assert_eq!(lines[0]["rejected"], 1);
}

#[tokio::test]
async fn disallowed_sender_is_rejected_before_body() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_INGRESS_ALLOWED_NETWORKS", "127.0.0.2")
        .start();
    let mut stream = TcpStream::connect(server.webhook_address()).await.unwrap();
    let head = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn trusted_proxy_names_sender() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_INGRESS_ALLOWED_NETWORKS", "203.0.113.0/24")
        .env("PLUGBOARD_INGRESS_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8")
        .start();
    let proxy = client_from("127.0.0.1");
    for lines in [
        &["203.0.113.9"][..],
        &["203.0.113.9:5678"],
        &["::ffff:203.0.113.9"],
        &["198.51.100.1, 203.0.113.9"],
        &["198.51.100.1", "203.0.113.9", "10.0.0.2"],
        &["invalid, 203.0.113.9, 10.0.0.2"],
    ] {
        assert_eq!(
            post(&server, &proxy, lines).await.sts_url(),
            Some(ROUTING_GUEST_URL),
            "{lines:?}"
        );
    }
    let expected: [&[&str]; 6] = [
        &["198.51.100.1"],
        // The sender itself can have written the first address.
        &["203.0.113.9, 198.51.100.1"],
        &["203.0.113.9", "198.51.100.1"],
        &["203.0.113.9, invalid"],
        &["invalid"],
        &[],
    ];
    for lines in expected {
        assert_eq!(outcome(&post(&server, &proxy, lines).await), FORBIDDEN, "{lines:?}");
    }
    // The header of an untrusted peer has no effect.
    let other = client_from("127.0.0.2");
    assert_eq!(outcome(&post(&server, &other, &["203.0.113.9"]).await), FORBIDDEN);
    assert_eq!(health(&server, &proxy).await, 200);
    assert_eq!(server.metric_value(NOT_ALLOWED).await, Some(7));
}

#[tokio::test]
async fn proxy_without_forwarded_header_is_logged() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_INGRESS_ALLOWED_NETWORKS", "203.0.113.0/24")
        .env("PLUGBOARD_INGRESS_TRUSTED_PROXIES", "127.0.0.0/8")
        .start();
    assert_eq!(outcome(&server.post(call_initiated()).await), FORBIDDEN);
    let lines = stop_and_read_rejections(server);
    assert_eq!(lines.len(), 1);
    assert!(lines[0]["message"].as_str().unwrap().contains("X-Forwarded-For"), "{lines:?}");
    assert_eq!(lines[0]["peer"], "127.0.0.1");
}

#[tokio::test]
async fn rate_limit_applies_to_each_sender() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_INGRESS_RATE_LIMIT", "1")
        .env("PLUGBOARD_INGRESS_RATE_LIMIT_BURST", "4")
        .start();
    let (one, other) = (client_from("127.0.0.1"), client_from("127.0.0.2"));
    let start = Instant::now();
    let mut answered = 0;
    // Another address in the header does not start another token bucket.
    let rejection = loop {
        let answer = post(&server, &one, &[&format!("203.0.113.{answered}")]).await;
        if answer.status != 200 {
            break answer;
        }
        answered += 1;
    };
    let refilled = usize::try_from(start.elapsed().as_secs()).unwrap();
    assert!((4..=4 + refilled).contains(&answered), "{answered} in {:?}", start.elapsed());
    assert_eq!(outcome(&rejection), TOO_MANY);
    assert_eq!(rejection.headers["retry-after"], "1");
    assert_eq!(post(&server, &other, &[]).await.sts_url(), Some(ROUTING_GUEST_URL));
    for _ in 0..20 {
        assert_eq!(health(&server, &one).await, 200);
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    while post(&server, &one, &[]).await.sts_url() != Some(ROUTING_GUEST_URL) {
        assert!(Instant::now() < deadline, "the token bucket was not refilled");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(server.metric_value(OVER_RATE).await.unwrap() >= 1);
    assert_eq!(server.metric_value(NOT_ALLOWED).await, Some(0));
    let lines = stop_and_read_rejections(server);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["sender"], "127.0.0.1");
}

#[tokio::test]
async fn rate_limit_applies_to_each_sender_behind_proxy() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_INGRESS_TRUSTED_PROXIES", "127.0.0.1")
        .env("PLUGBOARD_INGRESS_RATE_LIMIT", "1")
        .start();
    let proxy = client_from("127.0.0.1");
    let start = Instant::now();
    let mut statuses = Vec::new();
    for lines in [
        &["203.0.113.9"][..],
        &["203.0.113.9"],
        &["203.0.113.10"],
        &["2001:db8::1"],
        &["2001:db8::2"],
        &["2001:db8:0:1::1"],
        // These requests count as requests of the proxy.
        &["invalid"],
        &[],
    ] {
        statuses.push(post(&server, &proxy, lines).await.status);
    }
    // Within a second, no bucket gains a token. A very slow machine skips the assertion.
    if start.elapsed() < Duration::from_millis(900) {
        assert_eq!(statuses, [200, 429, 200, 200, 429, 200, 200, 429]);
    }
}

#[tokio::test]
async fn all_senders_are_served_by_default() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    let client = client_from("127.0.0.2");
    for _ in 0..200 {
        assert_eq!(post(&server, &client, &["invalid"]).await.sts_url(), Some(ROUTING_GUEST_URL));
    }
    assert_eq!(server.metric_value(NOT_ALLOWED).await, Some(0));
}
