//! HTTPS: certificates and their renewal, and connections that misbehave.

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

/// Posts a call over HTTPS, and returns its `sts_url`.
async fn route(client: &reqwest::Client, server: &Server) -> reqwest::Result<String> {
    let url = format!("https://{}/events", server.webhook_address());
    let text = client.post(url).body(call_initiated()).send().await?.text().await?;
    let body: serde_json::Value = serde_json::from_str(&text).unwrap();
    Ok(body["sts_url"].as_str().unwrap().to_owned())
}

/// Returns true if a new connection gets a certificate that `root` issued.
fn has_certificate_of(server: &Server, root: &str) -> bool {
    Connection::open(server, root, &[]).is_ok_and(|mut connection| connection.is_healthy())
}

fn wait_for_certificate_of(server: &Server, root: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !has_certificate_of(server, root) {
        assert!(
            Instant::now() < deadline,
            "the certificate was not renewed:\n{}",
            server.log_text()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn count_renewal_errors(server: &Server) -> usize {
    server.log_text().matches("cannot renew the certificate, the previous one stays").count()
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
    // A client that trusts only another root rejects the certificate.
    let other = client(SECOND_ROOT).build().unwrap();
    assert!(route(&other, &server).await.is_err());
    let negotiate = |protocols: &[&[u8]]| {
        let connection = Connection::open(&server, FIRST_ROOT, protocols);
        connection.map(|it| it.0.conn.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(negotiate(&[b"h2", b"http/1.1"]).unwrap().unwrap(), b"http/1.1");
    assert_eq!(negotiate(&[]).unwrap(), None);
    assert!(negotiate(&[b"h2"]).is_err());
    // The admin listener does not use TLS.
    assert_eq!(server.admin_get("/livez").await.status, 200);
    assert!(!server.log_text().contains("tls.certificate"), "{}", server.log_text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_is_renewed_when_both_files_match() {
    let folder = PluginFolder::new();
    let files = Files::new(FIRST);
    let server = files.setup(folder.path(), "20ms").start();
    let mut old = Connection::open(&server, FIRST_ROOT, &[]).unwrap();
    assert!(old.is_healthy());
    let assert_rejected = async |text: &str, nth: u64| {
        server.wait_for_log(|line| line["message"].as_str().is_some_and(|it| it.contains(text)));
        server.wait_for_metric("plugboard_tls_reloads_total{result=\"rejected\"}", nth).await;
        assert!(has_certificate_of(&server, FIRST_ROOT));
    };
    // Only one of the two files is replaced yet.
    files.replace("chain.pem", SECOND[0]);
    assert_rejected("does not belong to the first certificate in", 1).await;
    files.replace("key.pem", "no key");
    assert_rejected("there is no private key in", 2).await;
    files.replace("chain.pem", "no certificate");
    assert_rejected("there is no certificate in", 3).await;
    std::fs::remove_file(files.path("chain.pem")).unwrap();
    assert_rejected("cannot read", 4).await;
    // Further polls of the same files log no further line.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(count_renewal_errors(&server), 4, "{}", server.log_text());
    assert!(old.is_healthy());

    files.replace("key.pem", SECOND[1]);
    files.replace("chain.pem", SECOND[0]);
    wait_for_certificate_of(&server, SECOND_ROOT);
    assert!(!has_certificate_of(&server, FIRST_ROOT));
    server.wait_for_metric("plugboard_tls_reloads_total{result=\"renewed\"}", 1).await;
    // The connection with the previous certificate continues.
    assert!(old.is_healthy());
    let client = client(SECOND_ROOT).build().unwrap();
    let url = format!("https://{}/health", server.webhook_address());
    assert_eq!(client.get(url).send().await.unwrap().status().as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requested_reload_renews_certificate_at_once() {
    let folder = PluginFolder::new();
    let files = Files::new(FIRST);
    let server = files.setup(folder.path(), "1h").start();
    files.write(SECOND);
    assert!(has_certificate_of(&server, FIRST_ROOT));
    server.reload().await;
    assert!(has_certificate_of(&server, SECOND_ROOT));
    files.write(EXPIRED);
    server.send_sighup();
    server.wait_for_log(|line| {
        line["level"] == "WARN"
            && line["message"].as_str().unwrap().contains("expired at 2021-01-01T00:00:00Z")
    });
    files.write(FIRST);
    server.send_sighup();
    wait_for_certificate_of(&server, FIRST_ROOT);
}

#[tokio::test]
async fn plain_http_request_gets_https_expected() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let files = Files::new(FIRST);
    let server = files.setup(folder.path(), "1h").start();
    for _ in 0..2 {
        let answer = server.post(call_initiated()).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.body["error"]["code"], "https_expected");
    }
    assert_eq!(server.get("/health").await.status, 400);
    for malformed in [&b"\0"[..], b"hello\r\n\r\n", b"\x16\x03\x01\0\x05hello", &[0x16; 4096]] {
        let mut stream = TcpStream::connect(server.webhook_address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(malformed).unwrap();
        _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        // A reset also ends the connection.
        assert!(
            ended.as_ref().map_or_else(|error| error.kind() != io::ErrorKind::WouldBlock, |_| true),
            "{malformed:?}: {ended:?}"
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

/// Opens connections with unfinished handshakes: one without data, one with a part of a
/// record, and one with a complete `ClientHello`.
fn open_unfinished_handshakes(server: &Server) -> Vec<TcpStream> {
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

/// Waits until the server closes the connections, and returns the elapsed time.
fn wait_for_close(streams: Vec<TcpStream>) -> Duration {
    let start = Instant::now();
    for mut stream in streams {
        let ended = stream.read_to_end(&mut Vec::new());
        let is_waiting = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        assert!(!ended.is_err_and(is_waiting), "still open");
    }
    start.elapsed()
}

#[tokio::test]
async fn unfinished_handshakes_time_out_and_delay_no_call() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let files = Files::new(FIRST);
    let setup = files.setup(folder.path(), "1h").env("PLUGBOARD_LIMITS_HEADER_TIMEOUT", "10s");
    let server = setup.start();
    let streams = open_unfinished_handshakes(&server);
    let start = Instant::now();
    let client = client(FIRST_ROOT).build().unwrap();
    assert_eq!(route(&client, &server).await.unwrap(), ROUTING_GUEST_URL);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    wait_for_close(streams);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test]
async fn unfinished_handshakes_count_as_connections() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let files = Files::new(FIRST);
    let server = files
        .setup(folder.path(), "1h")
        .env("PLUGBOARD_LIMITS_HEADER_TIMEOUT", "1s")
        .env("PLUGBOARD_LIMITS_MAX_CONNECTIONS", "3")
        .start();
    let start = Instant::now();
    let streams = open_unfinished_handshakes(&server);
    assert_eq!(streams.len(), 3);
    // The call waits until the server closes one of them.
    let client = client(FIRST_ROOT).build().unwrap();
    assert_eq!(route(&client, &server).await.unwrap(), ROUTING_GUEST_URL);
    assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
    wait_for_close(streams);
}

#[tokio::test]
async fn unfinished_handshakes_do_not_delay_shutdown() {
    let folder = PluginFolder::new();
    let files = Files::new(FIRST);
    let mut server = files.setup(folder.path(), "1h").start();
    let streams = open_unfinished_handshakes(&server);
    let mut idle = Connection::open(&server, FIRST_ROOT, &[]).unwrap();
    assert!(idle.is_healthy());
    server.send_sigterm();
    assert!(wait_for_close(streams) < Duration::from_secs(5));
    assert!(server.wait_for_exit());
    assert!(!server.log_text().contains("with requests in flight"), "{}", server.log_text());
    // The server sends `close_notify`, so the end is not a truncation.
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
fn unusable_certificate_is_configuration_error() {
    let folder = PluginFolder::new();
    let run = |verb: &str, environment: &[(&str, &str)]| {
        let mut command = Command::new(program());
        command.args([verb, "--plugins", "."]).current_dir(folder.path());
        command.env_clear().envs(environment.iter().copied()).stderr(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                // The server started despite the error.
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), stderr)
    };
    let files = Files::new([FIRST[0], SECOND[1]]);
    let (certificate, key) = (files.path("chain.pem"), files.path("key.pem"));
    let both = [("PLUGBOARD_TLS_CERTIFICATE", &*certificate), ("PLUGBOARD_TLS_KEY", &*key)];
    for verb in ["serve", "check"] {
        let assert_rejected = |environment: &[(&str, &str)], expected: &str| {
            let (status, stderr) = run(verb, environment);
            assert_eq!(status, Some(78), "{verb}: {stderr}");
            assert!(stderr.contains(expected), "{verb}: {expected:?} is not in:\n{stderr}");
        };
        files.write([FIRST[0], SECOND[1]]);
        assert_rejected(&both, &format!("the private key in {key} does not belong to"));
        files.write([FIRST[1], FIRST[1]]);
        assert_rejected(&both, &format!("there is no certificate in {certificate}"));
        files.write([FIRST[0], FIRST[0]]);
        assert_rejected(&both, &format!("there is no private key in {key}"));
        std::fs::remove_file(&key).unwrap();
        assert_rejected(&both, &format!("cannot read {key}: "));
        assert_rejected(&both[..1], "tls.key: expected a file");
    }
    files.write(EXPIRED);
    let (status, stderr) = run("check", &both);
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("expired at 2021-01-01T00:00:00Z"), "{stderr}");
}
