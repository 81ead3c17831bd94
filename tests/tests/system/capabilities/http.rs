//! HTTP requests of plugins: allowed targets, sizes and timeouts.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use serde_json::json;
use tests::{Collector, PluginFolder, ServerBuilder};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{assert_results, run_script, with_reaches};

/// Folder with one plugin for calls to `a` that has these HTTP grants.
fn folder_with_grants(name: &str, grants: &[&str]) -> PluginFolder {
    with_reaches(PluginFolder::new(), name, "a", &format!("[grants]\nhttp = {grants:?}\n"))
}

#[tokio::test]
async fn granted_request_is_sent_unchanged() {
    let (collector, other) = (Collector::start().await, Collector::start().await);
    let server =
        ServerBuilder::new(folder_with_grants("50-a", &[&collector.address()]).path()).start();
    collector.respond_with(418, &[], "short and stout");
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let script = format!("http.{method} {} {{\"a\": [1]}}", collector.url("/p?q=%26"));
        assert_results(&server, "a", &[(&script, "ok 418 short and stout")]).await;
        let request = collector.requests().pop().unwrap();
        assert_eq!((request.method.as_str(), request.body), (method, json!({"a": [1]})));
        assert_eq!(request.uri, "/p?q=%26");
        assert_eq!(request.headers["x-guest"], "reaches");
        assert_eq!(request.headers["host"], collector.address());
        let agent = request.headers["user-agent"].to_str().unwrap();
        assert!(agent.starts_with("plugboard/"), "{agent}");
    }
    let (head, trace) = (collector.url("/"), collector.requests().len());
    assert_results(
        &server,
        "a",
        &[
            (&format!("http.HEAD {head}"), "ok 418 "),
            (&format!("http.TRACE {head}"), "error invalid-request"),
            (&format!("http.get {head}"), "error invalid-request"),
            (&format!("http.GET {}", other.url("/")), "error not-granted"),
        ],
    )
    .await;
    assert_eq!((collector.requests().len(), other.requests().len()), (trace + 1, 0));
    let gone = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let folder = folder_with_grants("50-a", &[&gone.to_string()]);
    // A failed connection is not a denial, so its log level is `debug`.
    let server = ServerBuilder::new(folder.path()).env("PLUGBOARD_LOG_LEVEL", "debug").start();
    let get = format!("http.GET http://{gone}/4930123");
    assert_results(&server, "a", &[(&get, "error failed")]).await;
    let line = server.wait_for_log(|line| line["capability"] == "http");
    let reason = line["reason"].as_str().unwrap();
    assert!(reason.contains(&gone.to_string()) && !reason.contains("4930123"), "{reason}");
}

#[tokio::test]
async fn name_with_private_address_requires_address_grant() {
    let collector = Collector::start().await;
    let port = collector.address().split_once(':').unwrap().1.to_owned();
    let name = format!("localhost:{port}");
    let folder = folder_with_grants("50-a", &[&name]);
    let server = ServerBuilder::new(folder.path()).start();
    let get = format!("http.GET http://{name}/");
    assert_results(&server, "a", &[(&get, "error address-refused")]).await;
    let line = server.wait_for_log(|line| line["error"] == "address_refused");
    // The reason has the grant to add.
    assert!(line["reason"].as_str().unwrap().contains(&format!(":{port}\"")), "{line}");
    assert_eq!(collector.requests().len(), 0);
    let grants = format!("match.to = 'a'\ngrants.http = ['{name}', '127.0.0.1:{port}']\n");
    folder.replace_settings("50-a", &grants);
    server.reload().await;
    assert_results(&server, "a", &[(&get, "ok 201 ")]).await;
    assert_eq!(collector.requests()[0].headers["host"], *name);
}

#[tokio::test]
async fn no_address_spelling_bypasses_grants() {
    let (collector, other) = (Collector::start().await, Collector::start().await);
    let port = collector.address().split_once(':').unwrap().1.to_owned();
    let name = format!("localhost:{port}");
    let grants = ["crm.example.com", &name, &other.address(), "10.0.0.0/8"];
    let folder = folder_with_grants("50-a", &grants);
    let server = ServerBuilder::new(folder.path()).start();
    let table = [
        ("http://127.0.0.1:PORT/", "not-granted"),
        ("HTTP://127.0.0.1:PORT/", "not-granted"),
        ("https://127.0.0.1:PORT/", "not-granted"),
        ("http://127.0.0.1:0000PORT/", "not-granted"),
        ("http://127.0.0.1.:PORT/", "not-granted"),
        ("http://127.0.0.2:PORT/", "not-granted"),
        ("http://127.1:PORT/", "not-granted"),
        ("http://127.0.1:PORT/", "not-granted"),
        ("http://2130706433:PORT/", "not-granted"),
        ("http://017700000001:PORT/", "not-granted"),
        ("http://0177.0.0.1:PORT/", "not-granted"),
        ("http://0x7f000001:PORT/", "not-granted"),
        ("http://0x7f.0.0.1:PORT/", "not-granted"),
        ("http://0X7F.1:PORT/", "not-granted"),
        ("http://0.0.0.0:PORT/", "not-granted"),
        ("http://0:PORT/", "not-granted"),
        ("http://[::ffff:127.0.0.1]:PORT/", "not-granted"),
        ("http://[::ffff:7f00:1]:PORT/", "not-granted"),
        ("http://[::127.0.0.1]:PORT/", "not-granted"),
        ("http://[64:ff9b::127.0.0.1]:PORT/", "not-granted"),
        ("http://[::1]:PORT/", "not-granted"),
        ("http://[::]:PORT/", "not-granted"),
        ("http://10.0.0.1:PORT/", "not-granted"),
        ("http://%31%32%37.0.0.1:PORT/", "not-granted"),
        ("http://１２７.0.0.1:PORT/", "not-granted"),
        ("http://127。0。0。1:PORT/", "not-granted"),
        ("http://a.localhost:PORT/", "not-granted"),
        ("http://localhost/", "not-granted"),
        ("http://localhost:PORT/", "address-refused"),
        ("http://LOCALHOST:PORT/", "address-refused"),
        ("http://%6cocalhost:PORT/", "address-refused"),
        ("http://ⓛocalhost:PORT/", "address-refused"),
        ("http://lo\tcalhost:PORT/", "address-refused"),
        ("http://127.0.0.1:PORT#@crm.example.com/", "not-granted"),
        ("http://127.0.0.1:PORT\\@crm.example.com/", "not-granted"),
        ("http:127.0.0.1:PORT/", "not-granted"),
        ("http:\\\\127.0.0.1:PORT\\", "not-granted"),
        ("http:////127.0.0.1:PORT/", "not-granted"),
        ("http://crm.example.com@127.0.0.1:PORT/", "invalid-request"),
        ("http://crm.example.com:80@localhost:PORT/", "invalid-request"),
        ("//127.0.0.1:PORT/", "invalid-request"),
        ("127.0.0.1:PORT", "invalid-request"),
        ("http://256.0.0.1:PORT/", "invalid-request"),
        ("http://127.0.0.1.1:PORT/", "invalid-request"),
        ("http://127.0.0.1:65536/", "invalid-request"),
        ("http://[fe80::1%25lo]:PORT/", "invalid-request"),
        ("file:///etc/passwd", "invalid-request"),
        ("ftp://127.0.0.1:PORT/", "invalid-request"),
        ("ws://127.0.0.1:PORT/", "invalid-request"),
        ("unix:/run/docker.sock", "invalid-request"),
    ]
    .map(|(url, error)| {
        (format!("http.GET {}", url.replace("PORT", &port)), format!("error {error}"))
    });
    let table: Vec<_> = table.iter().map(|(get, error)| (&**get, &**error)).collect();
    assert_results(&server, "a", &table).await;
    // Not every resolver knows the name with a final dot.
    let dotted = run_script(&server, "a", &format!("http.GET http://localhost.:{port}/")).await;
    assert!(
        ["error address-refused", "error failed", "error timeout"].contains(&&*dotted[0]),
        "{dotted:?}"
    );
    assert_eq!((collector.requests().len(), other.requests().len()), (0, 0));
    // Every spelling of a granted address is allowed.
    folder
        .replace_settings("50-a", &format!("match.to = 'a'\ngrants.http = ['127.0.0.1:{port}']\n"));
    server.reload().await;
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        assert_results(&server, "a", &[(&format!("http.GET http://{host}:{port}/"), "ok 201 ")])
            .await;
    }
    assert_results(&server, "a", &[(&format!("http.GET http://{name}/"), "error not-granted")])
        .await;
}

#[tokio::test]
async fn redirect_target_requires_grant() {
    let (collector, other) = (Collector::start().await, Collector::start().await);
    let port = other.address().split_once(':').unwrap().1.to_owned();
    let (name, address) = (format!("localhost:{port}"), collector.address());
    let folder = folder_with_grants("50-a", &[&address, &name]);
    let server = ServerBuilder::new(folder.path()).start();
    let get = format!("http.GET {}", collector.url("/"));
    for (place, result) in [
        ("http://169.254.169.254/latest/meta-data/", "error not-granted"),
        ("http://[fd00:ec2::254]/", "error not-granted"),
        (&*other.url("/"), "error not-granted"),
        (&format!("//127.0.0.1:{port}/"), "error not-granted"),
        (&format!("http://{name}/"), "error address-refused"),
    ] {
        for status in [301, 302, 303, 307, 308] {
            collector.respond_with(status, &[("location", place)], "");
            assert_results(&server, "a", &[(&get, result)]).await;
        }
    }
    assert_eq!((collector.requests().len(), other.requests().len()), (25, 0));
    let grants = format!("match.to = 'a'\ngrants.http = ['{address}', '127.0.0.1:{port}']\n");
    folder.replace_settings("50-a", &grants);
    server.reload().await;
    collector.respond_with(302, &[("location", &other.url("/there?a=b"))], "");
    other.respond_with(200, &[], "there");
    assert_results(&server, "a", &[(&get, "ok 200 there")]).await;
    assert_eq!(other.requests()[0].uri, "/there?a=b");
}

#[tokio::test]
async fn request_and_response_sizes_are_limited() {
    let collector = Collector::start().await;
    let server = ServerBuilder::new(folder_with_grants("50-a", &[&collector.address()]).path())
        .env("PLUGBOARD_HTTP_MAX_RESPONSE", "4KiB")
        .env("PLUGBOARD_HTTP_MAX_REQUEST", "1KiB")
        .start();
    let get = format!("http.GET {}", collector.url("/"));
    let body = "x".repeat(3_500);
    collector.respond_with(200, &[], &body);
    assert_results(&server, "a", &[(&get, &format!("ok 200 {body}"))]).await;
    for (headers, length) in [(vec![], 4_097), (vec![("x-long", &*body)], 1_000)] {
        collector.respond_with(200, &headers, &"x".repeat(length));
        assert_results(&server, "a", &[(&get, "error too-large")]).await;
    }
    let received = collector.requests().len();
    let post = |bytes: usize| format!("http.POST {} {}", collector.url("/"), "x".repeat(bytes));
    collector.respond_with(200, &[], "");
    assert_results(&server, "a", &[(&post(900), "ok 200 "), (&post(1_024), "error too-large")])
        .await;
    assert_eq!(collector.requests().len(), received + 1);
}

/// Service that holds its responses until the test releases them.
struct HeldService {
    address: String,
    /// Number of requests received so far.
    received: watch::Receiver<usize>,
    release: watch::Sender<bool>,
}

impl HeldService {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (count, received) = watch::channel(0);
        let (release, released) = watch::channel(false);
        let wait = async |State((count, mut released)): State<(watch::Sender<usize>, _)>| {
            let released: &mut watch::Receiver<bool> = &mut released;
            count.send_modify(|count| *count += 1);
            _ = released.wait_for(|is_released| *is_released).await;
            "at last"
        };
        let routes = Router::new().fallback(wait).with_state((count, released));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, received, release }
    }

    fn get(&self) -> String {
        format!("http.GET http://{}/", self.address)
    }

    async fn wait_for(&mut self, requests: usize) {
        let received = self.received.wait_for(|received| *received >= requests);
        tokio::time::timeout(Duration::from_secs(120), received).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn request_times_out_before_plugin_deadline() {
    let held = HeldService::start().await;
    // Timeouts of the request, the plugin and the decision, and the shortest one in
    // milliseconds, which ends the request.
    for (request, plugin, budget, shortest) in [
        ("500ms", "10s", "20s", 500),
        ("60s", "3s", "20s", 3_000),
        ("60s", "10s", "4s", 4_000),
        ("5s", "3s", "6s", 3_000),
    ] {
        let settings = format!(
            "match.to = 'a'\nlimits.timeout = '{plugin}'\ngrants.http = ['{}']\n",
            held.address
        );
        let folder =
            PluginFolder::new().with_guest("50-a", "reaches").with_settings("50-a", &settings);
        let server = ServerBuilder::new(folder.path())
            .env("PLUGBOARD_HTTP_TIMEOUT", request)
            .env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", budget)
            .start();
        let start = Instant::now();
        assert_results(&server, "a", &[(&held.get(), "error timeout")]).await;
        let took = start.elapsed();
        let bounds = Duration::from_millis(shortest * 8 / 10)..Duration::from_secs(20);
        assert!(bounds.contains(&took), "{took:?} for {request}, {plugin}, {budget}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_are_limited_per_plugin() {
    let mut held = HeldService::start().await;
    let settings = |to| {
        format!("match.to = '{to}'\nlimits.timeout = '20s'\ngrants.http = ['{}']\n", held.address)
    };
    let folder = PluginFolder::new()
        .with_guest("50-a", "reaches")
        .with_settings("50-a", &settings("a"))
        .with_guest("60-b", "reaches")
        .with_settings("60-b", &settings("b"));
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_HTTP_CONCURRENCY", "1")
        .env("PLUGBOARD_HTTP_TIMEOUT", "20s")
        .env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "20s")
        .start();
    let server = std::sync::Arc::new(server);
    let get = held.get();
    let spawn_request = |to: &'static str| {
        let (server, get) = (server.clone(), get.clone());
        tokio::spawn(async move { run_script(&server, to, &get).await })
    };
    let first = spawn_request("a");
    held.wait_for(1).await;
    assert_eq!(spawn_request("a").await.unwrap(), ["error too-many"]);
    // Another plugin has its own limit.
    let other = spawn_request("b");
    held.wait_for(2).await;
    held.release.send(true).unwrap();
    for waiting in [first, other] {
        assert_eq!(waiting.await.unwrap(), ["ok 200 at last"]);
    }
    assert_eq!(spawn_request("a").await.unwrap(), ["ok 200 at last"]);
}
