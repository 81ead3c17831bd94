//! The real program, started for one test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;

use crate::program;

/// For anything that should come at once but may be slow on a busy machine.
const SERVER_TIMEOUT: Duration = Duration::from_secs(120);

/// Between two looks at something that is awaited.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// How to start it.
pub struct ServerBuilder {
    command: Command,
    data: Option<PathBuf>,
    admin: String,
}

impl ServerBuilder {
    /// The program with a plugin folder, ports of its own and a log for
    /// machines. Nothing of the test's own environment reaches it.
    pub fn new(plugins: &Path) -> Self {
        let mut command = Command::new(program());
        command.env_clear();
        command.env("PLUGBOARD_LOG_FORMAT", "json");
        command.env("PLUGBOARD_LOG_LEVEL", "info");
        // An answer that comes late on a busy machine would be that of another plugin.
        command.env("PLUGBOARD_PLUGIN_LIMITS_TIMEOUT", "1s");
        command.args(["serve", "--listen", "127.0.0.1:0", "--plugins"]);
        command.arg(plugins);
        // Where no plugboard.toml is.
        command.current_dir(plugins);
        Self { command, data: None, admin: "127.0.0.1:0".to_owned() }
    }

    /// Serves the admin listener at this address, as one did that has ended.
    #[must_use]
    pub fn with_admin_address(self, address: &str) -> Self {
        Self { admin: address.to_owned(), ..self }
    }

    /// Keeps its data here, and not in a folder of its own that goes with it.
    #[must_use]
    pub fn with_data_folder(self, folder: &Path) -> Self {
        Self { data: Some(folder.to_owned()), ..self }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Serves BlackBox as well.
    #[must_use]
    pub fn enable_blackbox(self) -> Self {
        self.env("PLUGBOARD_BLACKBOX_ENABLED", "true")
    }

    /// Starts it, and waits until it serves.
    pub fn start(mut self) -> Server {
        let temporary_data = self.data.is_none().then(|| TempDir::new().unwrap());
        let data =
            self.data.unwrap_or_else(|| temporary_data.as_ref().unwrap().path().join("data"));
        self.command.args(["--admin", &self.admin]).arg("--data").arg(data);
        let mut child = self.command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let log = Arc::new(LogBuffer::default());
        let (lines, log_writer) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                log_writer.push(line);
            }
            log_writer.end();
        });
        let (webhooks, admin) = (String::new(), String::new());
        let mut server =
            Server { child, log, webhook_url: webhooks, admin_url: admin, _data: temporary_data };
        let serving_line = server.wait_for_log(|line| line["message"] == "serving");
        server.webhook_url = format!("http://{}", serving_line["webhooks"].as_str().unwrap());
        server.admin_url = format!("http://{}", serving_line["admin"].as_str().unwrap());
        server
    }
}

/// A running program; ended with the test.
pub struct Server {
    child: Child,
    log: Arc<LogBuffer>,
    webhook_url: String,
    admin_url: String,
    _data: Option<TempDir>,
}

/// What came back.
#[derive(Debug)]
pub struct ServerResponse {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, if it is JSON.
    pub body: Value,
    /// The body as it came.
    pub text: String,
    /// How long it took.
    pub elapsed: Duration,
}

impl ServerResponse {
    /// The field that AVR reads.
    pub fn sts_url(&self) -> Option<&str> {
        self.body["sts_url"].as_str()
    }
}

impl Server {
    /// The webhook listener's address.
    pub fn webhook_address(&self) -> &str {
        self.webhook_url.trim_start_matches("http://")
    }

    /// The admin listener's address.
    pub fn admin_address(&self) -> &str {
        self.admin_url.trim_start_matches("http://")
    }

    /// Where events are posted.
    pub fn events_url(&self) -> String {
        format!("{}/events", self.webhook_url)
    }

    /// Ends the program without a word, as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it takes of the machine's memory now, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.read_memory("VmRSS:")
    }

    /// The most that it ever took, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.read_memory("VmHWM:")
    }

    fn read_memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Posts an event as AVR does.
    pub async fn post(&self, body: impl Into<String>) -> ServerResponse {
        self.post_with_client(&crate::client(), &[], body).await
    }

    /// Posts an event with these headers, over this client's connections.
    pub async fn post_with_client(
        &self,
        client: &reqwest::Client,
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> ServerResponse {
        let request = client.post(format!("{}/events", self.webhook_url)).body(body.into());
        send_request(add_headers(request, headers)).await
    }

    /// Posts to this path of the webhook listener with these headers.
    pub async fn post_to(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> ServerResponse {
        let request = crate::client().post(format!("{}{path}", self.webhook_url)).body(body);
        send_request(add_headers(request, headers)).await
    }

    /// Posts a document as BlackBox does.
    pub async fn post_blackbox(&self, body: impl Into<reqwest::Body>) -> ServerResponse {
        self.post_to("/blackbox", &[], body).await
    }

    /// Posts to the admin listener.
    pub async fn admin_post(&self, path: &str, body: impl Into<String>) -> ServerResponse {
        let client = crate::client();
        send_request(client.post(format!("{}{path}", self.admin_url)).body(body.into())).await
    }

    /// Asks the admin listener to delete something, with these headers.
    pub async fn admin_delete(&self, path: &str, headers: &[(&str, &str)]) -> ServerResponse {
        let mut request = crate::client().delete(format!("{}{path}", self.admin_url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send_request(request).await
    }

    /// Has the plugin folder looked at now; what changed.
    pub async fn reload(&self) -> Value {
        let answer = self.admin_post("/reload", "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// One line of `GET /metrics`, by all that stands before its value.
    pub async fn metric_value(&self, series: &str) -> Option<u64> {
        let text = self.metrics_text().await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// Waits until so many guests run at the same time.
    pub async fn wait_for_guests(&self, at_least: u64) {
        let deadline = Instant::now() + SERVER_TIMEOUT;
        while self.metric_value("plugboard_pool_instances_used").await < Some(at_least) {
            assert!(Instant::now() < deadline, "too few guests:\n{}", self.log_text());
        }
    }

    /// `GET /metrics`.
    pub async fn metrics_text(&self) -> String {
        let response =
            crate::client().get(format!("{}/metrics", self.admin_url)).send().await.unwrap();
        response.text().await.unwrap()
    }

    /// Where the next usual call is sent.
    pub async fn route_call(&self) -> Option<String> {
        self.post(crate::call_initiated()).await.sts_url().map(str::to_owned)
    }

    /// Waits until the usual call is sent there.
    pub async fn wait_for_route(&self, url: Option<&str>) {
        let deadline = Instant::now() + SERVER_TIMEOUT;
        loop {
            let current = self.route_call().await;
            if current.as_deref() == url {
                return;
            }
            assert!(Instant::now() < deadline, "still {current:?}:\n{}", self.log_text());
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until a line of `GET /metrics` has this value or more.
    pub async fn wait_for_metric(&self, series: &str, at_least: u64) {
        let deadline = Instant::now() + SERVER_TIMEOUT;
        while self.metric_value(series).await < Some(at_least) {
            assert!(Instant::now() < deadline, "{series}:\n{}", self.metrics_text().await);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until a plugin's row of `GET /plugins` is as wanted.
    pub async fn wait_for_plugin(&self, name: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SERVER_TIMEOUT;
        loop {
            let listing = self.admin_get("/plugins").await.body;
            let row = listing["plugins"].as_array().unwrap().iter().find(|row| row["name"] == name);
            if let Some(row) = row.filter(|row| is_expected(row)) {
                return row.clone();
            }
            assert!(Instant::now() < deadline, "still {listing}:\n{}", self.log_text());
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Asks the webhook listener.
    pub async fn get(&self, path: &str) -> ServerResponse {
        self.get_with_headers(path, &[]).await
    }

    /// Asks the webhook listener with these headers.
    pub async fn get_with_headers(&self, path: &str, headers: &[(&str, &str)]) -> ServerResponse {
        let request = crate::client().get(format!("{}{path}", self.webhook_url));
        send_request(add_headers(request, headers)).await
    }

    /// Asks the admin listener.
    pub async fn admin_get(&self, path: &str) -> ServerResponse {
        self.admin_get_with_headers(path, &[]).await
    }

    /// Asks the admin listener with these headers.
    pub async fn admin_get_with_headers(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> ServerResponse {
        let request = crate::client().get(format!("{}{path}", self.admin_url));
        send_request(add_headers(request, headers)).await
    }

    /// A plugin's row of `GET /plugins`.
    pub async fn plugin_status(&self, name: &str) -> Value {
        let listing = self.admin_get("/plugins").await.body;
        let rows = listing["plugins"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == name);
        row.unwrap_or_else(|| panic!("no plugin {name} in {listing}")).clone()
    }

    /// The first line of the log, past or future, that is looked for.
    pub fn wait_for_log(&self, is_wanted_line: impl Fn(&Value) -> bool) -> Value {
        self.log.wait_for_line(is_wanted_line)
    }

    /// Ends the program; everything that it logged.
    pub fn stop(&mut self) -> String {
        self.send_sigterm();
        assert!(self.wait_for_exit(), "it ended badly:\n{}", self.log_text());
        self.wait_for_log(|line| line["message"] == "stopped");
        self.log_text()
    }

    /// Every line of the log that was written so far.
    pub fn log_text(&self) -> String {
        self.log.lines.lock().unwrap().text.join("\n")
    }

    /// Asks the program to end.
    pub fn send_sigterm(&self) {
        self.send_signal(Signal::TERM);
    }

    /// Asks the program to look at its plugins.
    pub fn send_sighup(&self) {
        self.send_signal(Signal::HUP);
    }

    /// Leaves it room for so many more open files.
    pub fn limit_open_files(&self, spare: usize) {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count();
        let max_files = Some((open + spare) as u64);
        let limit = Rlimit { current: max_files, maximum: max_files };
        prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap();
    }

    fn send_signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap()).unwrap()
    }

    /// Waits until it has ended; whether it did so well.
    pub fn wait_for_exit(&mut self) -> bool {
        let deadline = Instant::now() + SERVER_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log_text());
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn add_headers(
    request: reqwest::RequestBuilder,
    headers: &[(&str, &str)],
) -> reqwest::RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

async fn send_request(request: reqwest::RequestBuilder) -> ServerResponse {
    let start = Instant::now();
    let response = request.timeout(SERVER_TIMEOUT).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    ServerResponse { status, headers, body, text, elapsed: start.elapsed() }
}

#[derive(Default)]
struct LogBuffer {
    lines: Mutex<LogLines>,
    changed: Condvar,
}

#[derive(Default)]
struct LogLines {
    text: Vec<String>,
    is_ended: bool,
}

impl LogBuffer {
    fn push(&self, line: String) {
        self.lines.lock().unwrap().text.push(line);
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lines.lock().unwrap().is_ended = true;
        self.changed.notify_all();
    }

    fn wait_for_line(&self, is_wanted_line: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SERVER_TIMEOUT;
        let mut lines = self.lines.lock().unwrap();
        let mut next_index = 0;
        loop {
            while let Some(line) = lines.text.get(next_index) {
                next_index += 1;
                match serde_json::from_str(line) {
                    Ok(line) if is_wanted_line(&line) => return line,
                    _ => {}
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let text = || lines.text.join("\n");
            assert!(!lines.is_ended, "the program ended:\n{}", text());
            assert!(!left.is_zero(), "not in the log:\n{}", text());
            lines = self.changed.wait_timeout(lines, left).unwrap().0;
        }
    }
}
