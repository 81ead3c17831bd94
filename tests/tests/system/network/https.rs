//! https: which certificate is shown, and connections that misbehave.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tests::{PluginFolder, ROUTING_GUEST, ROUTING_GUEST_URL, Server, call_initiated, program};

use super::tls::{
    Connection, EXPIRED, FIRST, FIRST_ROOT, Files, PATIENCE, SECOND, SECOND_ROOT, client,
};

/// Posts a call over https; where it is sent.
async fn route(client: &reqwest::Client, server: &Server) -> reqwest::Result<String> {
    let url = format!("https://{}/events", server.webhook_address());
    let text = client.post(url).body(call_initiated()).send().await?.text().await?;
    let body: serde_json::Value = serde_json::from_str(&text).unwrap();
    Ok(body["sts_url"].as_str().unwrap().to_owned())
}

/// Whether a new handshake shows a certificate of `root`.
fn shows(server: &Server, root: &str) -> bool {
    Connection::open(server, root, &[]).is_ok_and(|mut connection| connection.is_well())
}

fn wait_until_it_shows(server: &Server, root: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !shows(server, root) {
        assert!(Instant::now() < deadline, "not yet:\n{}", server.log_text());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn complaints(server: &Server) -> usize {
    server.log_text().matches("the certificate that was served is served on").count()
}

#[tokio::test]
async fn calls_are_decided_over_https() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let files = Files::new(FIRST);
    let server = files.setup(folder.path(), "1h").start();
    for version in [reqwest::tls::Version::TLS_1_2, reqwest::tls::Version::TLS_1_3] {
        let client = client(FIRST_ROOT).tls_version_min(version).tls_version_max(version);
        let client = client.build().unwrap();
        for _ in 0..3 {
            assert_eq!(route(&client, &server).await.unwrap(), ROUTING_GUEST_URL, "{version:?}");
        }
    }
    // Whoever checks it sees that it is not another's.
    let other = client(SECOND_ROOT).build().unwrap();
    assert!(route(&other, &server).await.is_err());
    let chosen = |protocols: &[&[u8]]| {
        let connection = Connection::open(&server, FIRST_ROOT, protocols);
        connection.map(|it| it.0.conn.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(chosen(&[b"h2", b"http/1.1"]).unwrap().unwrap(), b"http/1.1");
    assert_eq!(chosen(&[]).unwrap(), None);
    assert!(chosen(&[b"h2"]).is_err());
    // Operators have a listener of their own.
    assert_eq!(server.admin_get("/livez").await.status, 200);
    assert!(!server.log_text().contains("tls.certificate"), "{}", server.log_text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_certificate_is_taken_up_once_it_is_whole() {
    let folder = PluginFolder::new();
    let files = Files::new(FIRST);
    let server = files.setup(folder.path(), "20ms").start();
    let mut old = Connection::open(&server, FIRST_ROOT, &[]).unwrap();
    assert!(old.is_well());
    let complained = async |of: &str, nth: u64| {
        server.wait_for_log(|line| line["message"].as_str().is_some_and(|it| it.contains(of)));
        server.wait_for_metric("plugboard_tls_reloads_total{result=\"refused\"}", nth).await;
        assert!(shows(&server, FIRST_ROOT));
    };
    // Between the one file and the other.
    files.put("chain.pem", SECOND[0]);
    complained("does not belong to the first certificate in", 1).await;
    files.put("key.pem", "no key");
    complained("there is no private key in", 2).await;
    files.put("chain.pem", "no certificate");
    complained("there is no certificate in", 3).await;
    std::fs::remove_file(files.path("chain.pem")).unwrap();
    complained("cannot read", 4).await;
    // Some more looks at the same.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(complaints(&server), 4, "{}", server.log_text());
    assert!(old.is_well());

    files.put("key.pem", SECOND[1]);
    files.put("chain.pem", SECOND[0]);
    wait_until_it_shows(&server, SECOND_ROOT);
    assert!(!shows(&server, FIRST_ROOT));
    server.wait_for_metric("plugboard_tls_reloads_total{result=\"renewed\"}", 1).await;
    // What was begun with the old one goes on.
    assert!(old.is_well());
    let client = client(SECOND_ROOT).build().unwrap();
    let url = format!("https://{}/health", server.webhook_address());
    assert_eq!(client.get(url).send().await.unwrap().status().as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_for_a_reload_need_not_wait() {
    let folder = PluginFolder::new();
    let files = Files::new(FIRST);
    let server = files.setup(folder.path(), "1h").start();
    files.write(SECOND);
    assert!(shows(&server, FIRST_ROOT));
    server.reload().await;
    assert!(shows(&server, SECOND_ROOT));
    files.write(EXPIRED);
    server.send_sighup();
    server.wait_for_log(|line| {
        line["level"] == "WARN"
            && line["message"].as_str().unwrap().contains("ended at 2021-01-01T00:00:00Z")
    });
    files.write(FIRST);
    server.send_sighup();
    wait_until_it_shows(&server, FIRST_ROOT);
}

#[tokio::test]
async fn plain_http_is_told_of_https() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let files = Files::new(FIRST);
    let server = files.setup(folder.path(), "1h").start();
    for _ in 0..2 {
        let answer = server.post(call_initiated()).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.body["error"]["code"], "https_expected");
    }
    assert_eq!(server.get("/health").await.status, 400);
    for rubbish in [&b"\0"[..], b"hello\r\n\r\n", b"\x16\x03\x01\0\x05hello", &[0x16; 4096]] {
        let mut stream = TcpStream::connect(server.webhook_address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(rubbish).unwrap();
        _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        // A reset is an end as well.
        assert!(
            ended.as_ref().map_or_else(|error| error.kind() != io::ErrorKind::WouldBlock, |_| true),
            "{rubbish:?}: {ended:?}"
        );
    }
    let client = client(FIRST_ROOT).build().unwrap();
    assert_eq!(route(&client, &server).await.unwrap(), ROUTING_GUEST_URL);
    assert_eq!(
        server
            .metric_value("plugboard_http_requests_total{listener=\"webhooks\",status=\"200\"}")
            .await,
        Some(1)
    );
}

/// Connections on which no handshake is ever finished: nothing, half a record, and a
/// client that says hello and no more.
fn unfinished(server: &Server) -> Vec<TcpStream> {
    let mut hello = Vec::new();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    tls.write_tls(&mut hello).unwrap();
    let pieces = [&[][..], &hello[..20], &hello];
    pieces
        .into_iter()
        .map(|piece| {
            let mut stream = TcpStream::connect(server.webhook_address()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(piece).unwrap();
            stream
        })
        .collect()
}

/// How long until the other side ends the connections.
fn ended(streams: Vec<TcpStream>) -> Duration {
    let start = Instant::now();
    for mut stream in streams {
        let ended = stream.read_to_end(&mut Vec::new());
        let is_waiting = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        assert!(!ended.is_err_and(is_waiting), "still open");
    }
    start.elapsed()
}

#[tokio::test]
async fn an_unfinished_handshake_is_let_go_and_keeps_nobody_waiting() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let files = Files::new(FIRST);
    let setup = files.setup(folder.path(), "1h").env("PLUGBOARD_LIMITS_HEADER_TIMEOUT", "10s");
    let server = setup.start();
    let streams = unfinished(&server);
    let begun = Instant::now();
    let client = client(FIRST_ROOT).build().unwrap();
    assert_eq!(route(&client, &server).await.unwrap(), ROUTING_GUEST_URL);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    ended(streams);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_unfinished_handshake_is_a_connection() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let files = Files::new(FIRST);
    let server = files
        .setup(folder.path(), "1h")
        .env("PLUGBOARD_LIMITS_HEADER_TIMEOUT", "1s")
        .env("PLUGBOARD_LIMITS_CONNECTIONS", "3")
        .start();
    let begun = Instant::now();
    let streams = unfinished(&server);
    assert_eq!(streams.len(), 3);
    // Waits until one of them is let go.
    let client = client(FIRST_ROOT).build().unwrap();
    assert_eq!(route(&client, &server).await.unwrap(), ROUTING_GUEST_URL);
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    ended(streams);
}

#[tokio::test]
async fn an_unfinished_handshake_does_not_hold_up_the_end() {
    let folder = PluginFolder::new();
    let files = Files::new(FIRST);
    let mut server = files.setup(folder.path(), "1h").start();
    let streams = unfinished(&server);
    let mut idle = Connection::open(&server, FIRST_ROOT, &[]).unwrap();
    assert!(idle.is_well());
    server.send_sigterm();
    assert!(ended(streams) < Duration::from_secs(5));
    assert!(server.wait_for_exit());
    assert!(!server.log_text().contains("with requests in flight"), "{}", server.log_text());
    // With a word, not as if it were cut off.
    assert_eq!(idle.0.read(&mut [0]).unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_over_https_are_finished_on_sigterm() {
    let folder = PluginFolder::new()
        .with_guest("10-spins", "spins")
        .with_settings("10-spins", "[limits]\ntimeout = '1s'\n")
        .with_guest("20-good", ROUTING_GUEST);
    let files = Files::new(FIRST);
    let mut server = files.setup(folder.path(), "1h").start();
    let client = client(FIRST_ROOT).build().unwrap();
    let url = format!("https://{}/events", server.webhook_address());
    let call = tokio::spawn(client.post(url).body(call_initiated()).send());
    server.wait_for_guests(1).await;
    server.send_sigterm();
    server.wait_for_log(|line| line["signal"] == "SIGTERM");
    let text = call.await.unwrap().unwrap().text().await.unwrap();
    assert!(text.contains(ROUTING_GUEST_URL), "{text}");
    assert!(server.wait_for_exit());
}

#[test]
fn a_certificate_that_cannot_be_used_is_no_configuration() {
    let folder = PluginFolder::new();
    let run = |verb: &str, environment: &[(&str, &str)]| {
        let mut command = Command::new(program());
        command.args([verb, "--plugins", "."]).current_dir(folder.path());
        command.env_clear().envs(environment.iter().copied()).stderr(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                // It serves.
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let files = Files::new([FIRST[0], SECOND[1]]);
    let (certificate, key) = (files.path("chain.pem"), files.path("key.pem"));
    let both = [("PLUGBOARD_TLS_CERTIFICATE", &*certificate), ("PLUGBOARD_TLS_KEY", &*key)];
    for verb in ["serve", "check"] {
        let refused = |environment: &[(&str, &str)], expected: &str| {
            let (status, said) = run(verb, environment);
            assert_eq!(status, Some(78), "{verb}: {said}");
            assert!(said.contains(expected), "{verb}: {expected:?} is not in:\n{said}");
        };
        files.write([FIRST[0], SECOND[1]]);
        refused(&both, &format!("the private key in {key} does not belong to"));
        files.write([FIRST[1], FIRST[1]]);
        refused(&both, &format!("there is no certificate in {certificate}"));
        files.write([FIRST[0], FIRST[0]]);
        refused(&both, &format!("there is no private key in {key}"));
        std::fs::remove_file(&key).unwrap();
        refused(&both, &format!("cannot read {key}: "));
        refused(&both[..1], "tls.key: expected a file");
    }
    files.write(EXPIRED);
    let (status, said) = run("check", &both);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("ended at 2021-01-01T00:00:00Z"), "{said}");
}
