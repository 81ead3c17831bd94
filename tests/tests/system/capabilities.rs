//! Capabilities of plugins: key-value store, HTTP requests and metrics, each with its
//! grant and its bounds.

mod http;
mod metrics;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    Collector, PluginFolder, ROUTING_GUEST, Server, ServerBuilder, call_initiated_for, guest_bytes,
    program,
};

const ALL: &str = "[grants]\nkv = true\nmetrics = true\n";

/// Returns the start of a call to this number, for which the fixture guest `reaches` runs
/// the script.
fn call(uuid: &str, to: &str, script: &str) -> String {
    let mut body: Value = serde_json::from_str(&call_initiated_for(uuid, to)).unwrap();
    body["payload"]["script"] = json!(script);
    body.to_string()
}

/// Runs a script through `/explain` and returns the result of each operation.
async fn run_script(server: &Server, to: &str, script: &str) -> Vec<String> {
    let explained = server.admin_post("/explain", call("reach", to, script)).await.body;
    let mut steps = explained["plugins"].as_array().unwrap().iter();
    let reason = steps.find_map(|step| step["decision"]["reason"].as_str());
    let reason = reason.unwrap_or_else(|| panic!("{explained}\n{}", server.log_text()));
    reason.lines().map(str::to_owned).collect()
}

/// Checks that each operation of the table has the result beside it.
async fn assert_results(server: &Server, to: &str, table: &[(&str, &str)]) {
    let script: Vec<&str> = table.iter().map(|(operation, _)| *operation).collect();
    let results = run_script(server, to, &script.join("\n")).await;
    let found: Vec<_> = script.into_iter().zip(results.iter().map(String::as_str)).collect();
    assert_eq!(found, table);
}

/// Waits until an operation has this result.
async fn wait_for_result(server: &Server, to: &str, operation: &str, result: &str) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let found = run_script(server, to, operation).await;
        if found == [result] {
            return;
        }
        assert!(Instant::now() < deadline, "{operation}: still {found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Server with a decision timeout that no call exceeds on a busy machine.
fn patient_server(folder: &PluginFolder) -> ServerBuilder {
    ServerBuilder::new(folder.path()).env("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "20s")
}

/// Adds the guest `reaches` for calls to this number, with a timeout of 20 s.
fn with_reaches(folder: PluginFolder, name: &str, to: &str, settings: &str) -> PluginFolder {
    let settings = format!("match.to = '{to}'\nlimits.timeout = '20s'\n{settings}");
    folder.with_guest(name, "reaches").with_settings(name, &settings)
}

#[tokio::test]
async fn capabilities_are_denied_without_grant() {
    let (collector, data) = (Collector::start().await, TempDir::new().unwrap());
    let folder = with_reaches(PluginFolder::new(), "50-none", "a", "");
    let mut server = patient_server(&folder).with_data_folder(data.path()).start();
    let get = format!("http.GET {}", collector.url("/4930123?number=4930123"));
    let table = [
        "kv.get k",
        "kv.set k v",
        "kv.set k v 1000",
        "kv.delete k",
        "kv.increment k 1",
        "kv.cas k - v",
        "kv.longkey 100000",
        &get,
        "http.GET http://localhost/",
        "metrics.count c - 1",
        "metrics.observe h a=b 1.5",
    ];
    let table = table.map(|operation| (operation, "error not-granted"));
    assert_results(&server, "a", &table).await;
    let script = table.map(|(operation, _)| operation).join("\n");
    let answer = server.post(call("for-real", "a", &script)).await;
    assert_eq!((answer.status, answer.body), (200, json!({})));
    let text = server.metrics_text().await;
    for (capability, operations) in [("kv", 7), ("http", 2), ("metrics", 2)] {
        let error = "error=\"not_granted\"";
        let series = format!(
            "plugboard_plugin_host_call_errors_total{{plugin=\"50-none\",capability=\"{capability}\",{error}}}"
        );
        let found = server.metric_value(&series).await;
        // Operations of `/explain` may or may not count.
        assert!(found == Some(operations) || found == Some(2 * operations), "{found:?} {text}");
    }
    assert!(!text.contains("plugboard_guest_"), "{text}");
    let log = server.stop();
    let lines: Vec<Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for capability in ["kv", "http", "metrics"] {
        let about = |line: &&Value| line["capability"] == capability && line["call"] == "for-real";
        let [line] = lines.iter().filter(about).collect::<Vec<_>>()[..] else { panic!("{log}") };
        assert_eq!((&line["level"], &line["plugin"]), (&json!("WARN"), &json!("50-none")));
        assert_eq!(line["error"], "not_granted");
        assert!(
            line["reason"].as_str().unwrap().contains(&format!("grants.{capability}")),
            "{line}"
        );
    }
    assert!(!log.contains("4930123"), "{log}");
    assert_eq!(collector.requests().len(), 0);
    let db = rusqlite::Connection::open(data.path().join("plugboard.db")).unwrap();
    let rows: u32 = db.query_row("SELECT count(*) FROM kv", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn kv_values_are_stored_changed_and_deleted() {
    let folder = with_reaches(PluginFolder::new(), "50-a", "a", ALL);
    let folder = with_reaches(folder, "60-b", "b", ALL);
    let server = patient_server(&folder).start();
    assert_results(
        &server,
        "a",
        &[
            ("kv.get k", "none"),
            ("kv.set k one", "ok"),
            ("kv.get k", "ok one"),
            ("kv.set k two", "ok"),
            ("kv.get k", "ok two"),
            ("kv.increment k 1", "error not-a-number"),
            ("kv.get k", "ok two"),
            ("kv.cas k one three", "false"),
            ("kv.cas k - three", "false"),
            ("kv.cas k two three", "true"),
            ("kv.cas new - v", "true"),
            ("kv.cas gone v w", "false"),
            ("kv.get k", "ok three"),
            ("kv.delete k", "true"),
            ("kv.delete k", "false"),
            ("kv.get k", "none"),
            ("kv.increment n 5", "ok 5"),
            ("kv.increment n -7", "ok -2"),
            ("kv.get n", "ok -2"),
            ("kv.set n 9223372036854775807", "ok"),
            ("kv.increment n 1", "error not-a-number"),
            ("kv.get n", "ok 9223372036854775807"),
            ("kv.increment n -9223372036854775808", "ok -1"),
            ("kv.set empty ", "ok"),
            ("kv.get empty", "ok "),
            ("kv.set  v", "error too-large"),
            ("kv.longkey 512", "ok"),
            ("kv.longkey 513", "error too-large"),
            ("kv.fill long 65536", "ok"),
            ("kv.fill long 65537", "error too-large"),
            ("kv.delete long", "true"),
        ],
    )
    .await;
    // Each plugin has its own keys.
    assert_results(
        &server,
        "b",
        &[("kv.get n", "none"), ("kv.set n b", "ok"), ("kv.delete new", "false")],
    )
    .await;
    assert_results(&server, "a", &[("kv.get n", "ok -1"), ("kv.get new", "ok v")]).await;
    // Values expire after their time to live. An increment does not extend it.
    assert_results(
        &server,
        "a",
        &[
            ("kv.set minute v 60000", "ok"),
            ("kv.increment count 1 4000", "ok 1"),
            ("kv.increment count 1 60000", "ok 2"),
            ("kv.set short v 1", "ok"),
        ],
    )
    .await;
    wait_for_result(&server, "a", "kv.get short", "none").await;
    wait_for_result(&server, "a", "kv.get count", "none").await;
    assert_results(
        &server,
        "a",
        &[
            ("kv.get minute", "ok v"),
            ("kv.delete count", "false"),
            ("kv.cas short - w", "true"),
            ("kv.increment count 1", "ok 1"),
        ],
    )
    .await;
    // A write without a time to live removes the expiry.
    assert_results(&server, "a", &[("kv.set brief v 1", "ok"), ("kv.set brief w", "ok")]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_results(&server, "a", &[("kv.get brief", "ok w")]).await;
}

#[tokio::test]
async fn kv_values_survive_restart_and_new_version() {
    let data = TempDir::new().unwrap();
    let folder = with_reaches(PluginFolder::new(), "50-a", "a", ALL);
    let start = || patient_server(&folder).with_data_folder(data.path()).start();
    let mut server = start();
    assert_results(&server, "a", &[("kv.set k v", "ok"), ("kv.increment n 41", "ok 41")]).await;
    server.kill();
    let server = start();
    assert_results(&server, "a", &[("kv.get k", "ok v"), ("kv.increment n 1", "ok 42")]).await;
    // The same code with a custom section in addition.
    let new = [&guest_bytes("reaches")[..], &[0, 2, 1, b'v']].concat();
    let before = server.plugin_status("50-a").await["digest"].clone();
    let folder = folder.with_bytes("50-a", &new);
    server.reload().await;
    assert_ne!(server.plugin_status("50-a").await["digest"], before);
    assert_results(&server, "a", &[("kv.get k", "ok v"), ("kv.increment n 1", "ok 43")]).await;
    // A revoked grant hides the values and does not delete them.
    folder.replace_settings("50-a", "match.to = 'a'");
    server.reload().await;
    assert_results(&server, "a", &[("kv.get k", "error not-granted")]).await;
    folder.replace_settings("50-a", &format!("match.to = 'a'\n{ALL}"));
    server.reload().await;
    assert_results(&server, "a", &[("kv.get k", "ok v")]).await;
}

#[tokio::test]
async fn kv_quota_applies_per_plugin() {
    let folder = with_reaches(PluginFolder::new(), "50-a", "a", ALL);
    let folder = with_reaches(folder, "60-b", "b", ALL);
    let server = patient_server(&folder).env("PLUGBOARD_KV_MAX_TOTAL", "4000B").start();
    assert_results(
        &server,
        "a",
        &[
            ("kv.fill one 3000", "ok"),
            ("kv.fill two 3000", "error quota"),
            // An overwritten value counts once.
            ("kv.fill one 3000", "ok"),
            ("kv.fill one 3850", "ok"),
            ("kv.increment n 1", "ok 1"),
            ("kv.fill one 3900", "error quota"),
            ("kv.increment m 1", "error quota"),
            ("kv.cas m - v", "error quota"),
            ("kv.set e ", "error quota"),
            ("kv.increment n 1", "ok 2"),
        ],
    )
    .await;
    let value = run_script(&server, "a", "kv.get one").await;
    assert_eq!(value[0].len(), "ok ".len() + 3850);
    assert_results(&server, "b", &[("kv.fill one 3800", "ok"), ("kv.get n", "none")]).await;
    assert_results(&server, "a", &[("kv.delete one", "true"), ("kv.fill two 3000", "ok")]).await;
    let expiring = format!("kv.set three {} 3000", "x".repeat(700));
    assert_results(&server, "a", &[(&expiring, "ok"), ("kv.fill four 600", "error quota")]).await;
    wait_for_result(&server, "a", "kv.fill four 600", "ok").await;
    let series = "plugboard_plugin_host_call_errors_total{plugin=\"60-b\",capability=\"kv\"";
    assert!(!server.metrics_text().await.contains(series));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_kv_increments_are_not_lost() {
    let folder = with_reaches(PluginFolder::new(), "50-a", "a", ALL);
    let server = std::sync::Arc::new(patient_server(&folder).start());
    let mut calls = tokio::task::JoinSet::new();
    for nth in 0..100 {
        let (server, script) = (server.clone(), "kv.increment n 1");
        calls.spawn(async move { server.post(call(&format!("c-{nth}"), "a", script)).await });
    }
    for answer in calls.join_all().await {
        assert_eq!((answer.status, answer.body), (200, json!({})));
    }
    assert_eq!(server.plugin_status("50-a").await["failures"], 0);
    assert_results(&server, "a", &[("kv.get n", "ok 100")]).await;
}

#[tokio::test]
async fn invalid_grant_is_reported_with_line() {
    for (grants, line, expected) in [
        ("http = ['http://x']", 3, "\"http://x\" is not a valid grant: it has a scheme"),
        ("http = ['http://x']", 3, "write \"x:80\""),
        (
            "http = ['*']",
            3,
            "\"*\" is not a valid grant: `*` is allowed only in front of a dot and a name",
        ),
        ("kv = true\nhttp = ['crm.example.com', 'x:99999']", 4, "\"x:99999\" is not a valid grant"),
        ("http = ['x:0']", 3, "from 1 to 65535"),
        ("http = ['x/y']", 3, "it has a path"),
        ("http = ['a@b']", 3, "more than a host and a port"),
        ("http = ['0x7f.1:80']", 3, "an encoded IPv4 address; write \"127.0.0.1\""),
        ("http = ['10.0.0.1/8']", 3, "write \"10.0.0.0/8\""),
        ("http = ['10.0.0.0/99']", 3, "prefix length is too large"),
        ("http = ['::1']", 3, "brackets"),
        ("http = ['']", 3, "is not a valid grant"),
        ("http = true", 3, "invalid type: boolean"),
        ("http = [1]", 3, "invalid type: integer"),
        ("kv = 'yes'", 3, "invalid type: string"),
        ("network = true", 3, "unknown field `network`"),
    ] {
        let settings = format!("# grants of the plugin\n[grants]\n{grants}\n");
        let folder =
            PluginFolder::new().with_guest("50-a", ROUTING_GUEST).with_settings("50-a", &settings);
        let mut check = Command::new(program());
        check.args(["check", "--plugins", "."]).current_dir(folder.path()).env_clear();
        let output = check.output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stdout}");
        let place = format!("broken    50-a: ./50-a.toml:{line}: ");
        assert!(
            stdout.contains(&place) && stdout.contains(expected),
            "{place}{expected}\n{stdout}"
        );
    }
    // After a failed reload the serving version keeps its grants.
    let folder = with_reaches(PluginFolder::new(), "50-a", "a", ALL);
    let server = patient_server(&folder).start();
    folder.replace_settings("50-a", "match.to = 'a'\n[grants]\nhttp = ['*']\n");
    server.reload().await;
    let row = server.plugin_status("50-a").await;
    let message = row["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("50-a.toml:3: \"*\" is not a valid grant"), "{row}");
    assert_results(
        &server,
        "a",
        &[("kv.set k v", "ok"), ("http.GET http://x/", "error not-granted")],
    )
    .await;
}
