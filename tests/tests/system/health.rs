//! Output and exit status of the command `plugboard health`.

use std::fs;
use std::net::TcpListener;

use tempfile::TempDir;
use tests::{CommandOutput, PluginFolder, ROUTING_GUEST, ServerBuilder, run_plugboard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Runs `plugboard health` in a folder without a configuration file.
fn health(arguments: &[&str]) -> CommandOutput {
    let folder = TempDir::new().unwrap();
    run_plugboard(folder.path(), &[&["health"], arguments].concat(), "")
}

/// Asserts that the command fails with this status and prints one line with this text.
fn assert_failure(output: &CommandOutput, status: i32, expected: &str) {
    let CommandOutput { status: actual, stdout, stderr } = output;
    assert_eq!((*actual, stdout.as_str()), (status, ""), "{stderr}");
    assert!(stderr.contains(expected), "{expected:?} is not in {stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "{stderr:?}");
}

#[tokio::test]
async fn health_reports_ready_server() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    let address = server.admin_address();
    let assert_ready = |output: CommandOutput| {
        let CommandOutput { status, stdout, stderr } = output;
        assert_eq!((status, stdout), (0, format!("ready: {address}\n")), "{stderr}");
        assert_eq!(stderr, "");
    };
    assert_ready(health(&["--admin", address]));
    // The server of such a configuration listens on every address.
    assert_ready(health(&["--admin", &address.replace("127.0.0.1", "0.0.0.0")]));
    let place = TempDir::new().unwrap();
    fs::write(place.path().join("plugboard.toml"), format!("admin = '{address}'\n")).unwrap();
    assert_ready(run_plugboard(place.path(), &["health"], ""));
}

#[tokio::test]
async fn health_fails_when_plugin_is_broken_at_start() {
    let folder = PluginFolder::new().with_guest("20-core", "core-module");
    let server = ServerBuilder::new(folder.path()).start();
    assert_failure(&health(&["--admin", server.admin_address()]), 1, "[\"20-core\"]");
}

#[tokio::test]
async fn health_fails_while_draining() {
    let folder = PluginFolder::new();
    let mut server =
        ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_BODY_TIMEOUT", "60s").start();
    // The server drains while this request is in progress. It asks for the body, so it has
    // read the head.
    let mut request = TcpStream::connect(server.webhook_address()).await.unwrap();
    let head =
        b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    request.write_all(head).await.unwrap();
    let mut interim = [0; 12];
    request.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100");
    server.send_sigterm();
    server.wait_for_log(|line| line["signal"] == "SIGTERM");
    // The log entry is slightly earlier than the drain.
    let output = loop {
        let output = health(&["--admin", server.admin_address()]);
        if output.status != 0 {
            break output;
        }
    };
    assert_failure(&output, 1, "the server is stopping");
    drop(request);
    assert!(server.wait_for_exit());
}

#[test]
fn health_fails_without_listener() {
    // Bound, so that no other program takes the port, but not listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    assert_failure(&health(&["--admin", &address]), 1, "Connection refused");
    assert_failure(&health(&["--admin", "127.0.0.1:0"]), 1, "--admin");
}

#[test]
fn health_fails_when_answer_is_late() {
    // The socket listens, but the test accepts no connection.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = health(&["--admin", &address, "--timeout", "200ms"]);
    assert_failure(&output, 1, &format!("no answer from {address} within 200ms"));
}

#[tokio::test]
async fn health_fails_when_other_service_answers() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path()).start();
    let output = health(&["--admin", server.webhook_address()]);
    assert_failure(&output, 1, "is not that of Plugboard");
}

#[test]
fn health_rejects_invalid_configuration() {
    let place = TempDir::new().unwrap();
    fs::write(place.path().join("plugboard.toml"), "plugin = 'x'\n").unwrap();
    let output = run_plugboard(place.path(), &["health"], "");
    assert_failure(&output, 78, "unknown field `plugin`");
    assert_failure(&health(&["--config", "nowhere.toml"]), 78, "cannot read nowhere.toml");
}
