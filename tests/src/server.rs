//! The real program as a server, started for one test.

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

/// Time limit of each wait. It is long because the machine may be busy.
const SERVER_TIMEOUT: Duration = Duration::from_secs(120);

/// Interval between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Configuration of a [`Server`] before its start.
pub struct ServerBuilder {
    command: Command,
    data: Option<PathBuf>,
    admin: String,
}

impl ServerBuilder {
    /// Configures the program with a plugin folder, free ports and a log in JSON. It does not
    /// inherit the test's environment.
    pub fn new(plugins: &Path) -> Self {
        let mut command = Command::new(program());
        command.env_clear();
        command.env("PLUGBOARD_LOG_FORMAT", "json");
        command.env("PLUGBOARD_LOG_LEVEL", "info");
        // On a busy machine, a plugin that exceeds its time limit loses the call to the next one.
        command.env("PLUGBOARD_PLUGIN_LIMITS_TIMEOUT", "1s");
        command.args(["serve", "--listen", "127.0.0.1:0", "--plugins"]);
        command.arg(plugins);
        // This folder has no plugboard.toml.
        command.current_dir(plugins);
        Self { command, data: None, admin: "127.0.0.1:0".to_owned() }
    }

    /// Binds the admin listener to this address, for example that of an ended server.
    #[must_use]
    pub fn with_admin_address(self, address: &str) -> Self {
        Self { admin: address.to_owned(), ..self }
    }

    /// Stores data in this folder, instead of a temporary one.
    #[must_use]
    pub fn with_data_folder(self, folder: &Path) -> Self {
        Self { data: Some(folder.to_owned()), ..self }
    }

    /// Sets an environment variable of the program.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Enables the webhooks of BlackBox.
    #[must_use]
    pub fn enable_blackbox(self) -> Self {
        self.env("PLUGBOARD_BLACKBOX_ENABLED", "true")
    }

    /// Starts the program, and waits until it serves.
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

/// Running program. Dropping it kills the process.
pub struct Server {
    child: Child,
    log: Arc<LogBuffer>,
    webhook_url: String,
    admin_url: String,
    _data: Option<TempDir>,
}

/// Response of the server, read completely.
#[derive(Debug)]
pub struct ServerResponse {
    /// Status code of the response.
    pub status: u16,
    /// Headers of the response.
    pub headers: HeaderMap,
    /// Body as JSON, or null if it is invalid JSON.
    pub body: Value,
    /// Body as unparsed text.
    pub text: String,
    /// Time from the request to the end of the response.
    pub elapsed: Duration,
}

impl ServerResponse {
    /// Returns the `sts_url` of the body, which AVR reads.
    pub fn sts_url(&self) -> Option<&str> {
        self.body["sts_url"].as_str()
    }
}

impl Server {
    /// Returns the address of the webhook listener.
    pub fn webhook_address(&self) -> &str {
        self.webhook_url.trim_start_matches("http://")
    }

    /// Returns the address of the admin listener.
    pub fn admin_address(&self) -> &str {
        self.admin_url.trim_start_matches("http://")
    }

    /// Returns the URL of AVR's webhook.
    pub fn events_url(&self) -> String {
        format!("{}/events", self.webhook_url)
    }

    /// Kills the program without a shutdown, as a power failure does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Returns the resident memory of the program, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.read_memory("VmRSS:")
    }

    /// Returns the peak resident memory of the program, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.read_memory("VmHWM:")
    }

    fn read_memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Posts an event to AVR's webhook.
    pub async fn post(&self, body: impl Into<String>) -> ServerResponse {
        self.post_with_client(&crate::client(), &[], body).await
    }

    /// Posts an event to AVR's webhook with these headers, over this client's connections.
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

    /// Posts a document to BlackBox's webhook.
    pub async fn post_blackbox(&self, body: impl Into<reqwest::Body>) -> ServerResponse {
        self.post_to("/blackbox", &[], body).await
    }

    /// Posts to a path of the admin listener.
    pub async fn admin_post(&self, path: &str, body: impl Into<String>) -> ServerResponse {
        let client = crate::client();
        send_request(client.post(format!("{}{path}", self.admin_url)).body(body.into())).await
    }

    /// Sends a DELETE request with these headers to the admin listener.
    pub async fn admin_delete(&self, path: &str, headers: &[(&str, &str)]) -> ServerResponse {
        let mut request = crate::client().delete(format!("{}{path}", self.admin_url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send_request(request).await
    }

    /// Reloads the plugin folder, and returns the changes.
    pub async fn reload(&self) -> Value {
        let answer = self.admin_post("/reload", "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// Returns the value of one series of `GET /metrics`. `series` has the labels as well.
    pub async fn metric_value(&self, series: &str) -> Option<u64> {
        let text = self.metrics_text().await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// Waits until at least this number of guests run at the same time.
    pub async fn wait_for_guests(&self, at_least: u64) {
        let deadline = Instant::now() + SERVER_TIMEOUT;
        while self.metric_value("plugboard_pool_instances_used").await < Some(at_least) {
            assert!(Instant::now() < deadline, "too few guests:\n{}", self.log_text());
        }
    }

    /// Returns the text of `GET /metrics`.
    pub async fn metrics_text(&self) -> String {
        let response =
            crate::client().get(format!("{}/metrics", self.admin_url)).send().await.unwrap();
        response.text().await.unwrap()
    }

    /// Posts the usual call, and returns the URL to which it is routed.
    pub async fn route_call(&self) -> Option<String> {
        self.post(crate::call_initiated()).await.sts_url().map(str::to_owned)
    }

    /// Waits until the usual call is routed to this URL.
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

    /// Waits until a series of `GET /metrics` has at least this value.
    pub async fn wait_for_metric(&self, series: &str, at_least: u64) {
        let deadline = Instant::now() + SERVER_TIMEOUT;
        while self.metric_value(series).await < Some(at_least) {
            assert!(Instant::now() < deadline, "{series}:\n{}", self.metrics_text().await);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until a plugin's row of `GET /plugins` satisfies a condition, and returns it.
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

    /// Sends a GET request to the webhook listener.
    pub async fn get(&self, path: &str) -> ServerResponse {
        self.get_with_headers(path, &[]).await
    }

    /// Sends a GET request with these headers to the webhook listener.
    pub async fn get_with_headers(&self, path: &str, headers: &[(&str, &str)]) -> ServerResponse {
        let request = crate::client().get(format!("{}{path}", self.webhook_url));
        send_request(add_headers(request, headers)).await
    }

    /// Sends a GET request to the admin listener.
    pub async fn admin_get(&self, path: &str) -> ServerResponse {
        self.admin_get_with_headers(path, &[]).await
    }

    /// Sends a GET request with these headers to the admin listener.
    pub async fn admin_get_with_headers(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> ServerResponse {
        let request = crate::client().get(format!("{}{path}", self.admin_url));
        send_request(add_headers(request, headers)).await
    }

    /// Returns a plugin's row of `GET /plugins`.
    pub async fn plugin_status(&self, name: &str) -> Value {
        let listing = self.admin_get("/plugins").await.body;
        let rows = listing["plugins"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == name);
        row.unwrap_or_else(|| panic!("no plugin {name} in {listing}")).clone()
    }

    /// Returns the first log line that satisfies a condition. Waits if it is not yet written.
    pub fn wait_for_log(&self, is_wanted_line: impl Fn(&Value) -> bool) -> Value {
        self.log.wait_for_line(is_wanted_line)
    }

    /// Stops the program gracefully, and returns its whole log.
    pub fn stop(&mut self) -> String {
        self.send_sigterm();
        assert!(self.wait_for_exit(), "the program exited with an error:\n{}", self.log_text());
        self.wait_for_log(|line| line["message"] == "stopped");
        self.log_text()
    }

    /// Returns the log lines written so far.
    pub fn log_text(&self) -> String {
        self.log.lines.lock().unwrap().text.join("\n")
    }

    /// Sends SIGTERM, which starts the graceful shutdown.
    pub fn send_sigterm(&self) {
        self.send_signal(Signal::TERM);
    }

    /// Sends SIGHUP, which starts a reload.
    pub fn send_sighup(&self) {
        self.send_signal(Signal::HUP);
    }

    /// Limits the program's open files to the current number plus `spare`.
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

    /// Waits until the program has ended, and returns whether its exit status is 0.
    pub fn wait_for_exit(&mut self) -> bool {
        let deadline = Instant::now() + SERVER_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(Instant::now() < deadline, "the program does not end:\n{}", self.log_text());
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
