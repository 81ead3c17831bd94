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
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(5);

/// How to start it.
pub struct Setup {
    command: Command,
    data: Option<PathBuf>,
    admin: String,
}

impl Setup {
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
    pub fn admin(self, address: &str) -> Self {
        Self { admin: address.to_owned(), ..self }
    }

    /// Keeps its data here, and not in a folder of its own that goes with it.
    #[must_use]
    pub fn data(self, folder: &Path) -> Self {
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
    pub fn blackbox(self) -> Self {
        self.env("PLUGBOARD_BLACKBOX_ENABLED", "true")
    }

    /// Starts it, and waits until it serves.
    pub fn start(mut self) -> Server {
        let own = self.data.is_none().then(|| TempDir::new().unwrap());
        let data = self.data.unwrap_or_else(|| own.as_ref().unwrap().path().join("data"));
        self.command.args(["--admin", &self.admin]).arg("--data").arg(data);
        let mut child = self.command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let log = Arc::new(Log::default());
        let (lines, into) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                into.push(line);
            }
            into.end();
        });
        let (webhooks, admin) = (String::new(), String::new());
        let mut server = Server { child, log, webhooks, admin, _data: own };
        let serving = server.wait_for_log(|line| line["message"] == "serving");
        server.webhooks = format!("http://{}", serving["webhooks"].as_str().unwrap());
        server.admin = format!("http://{}", serving["admin"].as_str().unwrap());
        server
    }
}

/// A running program; ended with the test.
pub struct Server {
    child: Child,
    log: Arc<Log>,
    webhooks: String,
    admin: String,
    _data: Option<TempDir>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, if it is JSON.
    pub body: Value,
    /// The body as it came.
    pub text: String,
    /// How long it took.
    pub took: Duration,
}

impl Answer {
    /// The field that AVR reads.
    pub fn sts_url(&self) -> Option<&str> {
        self.body["sts_url"].as_str()
    }
}

impl Server {
    /// The webhook listener's address.
    pub fn webhook_address(&self) -> &str {
        self.webhooks.trim_start_matches("http://")
    }

    /// The admin listener's address.
    pub fn admin_address(&self) -> &str {
        self.admin.trim_start_matches("http://")
    }

    /// Where events are posted.
    pub fn events_url(&self) -> String {
        format!("{}/events", self.webhooks)
    }

    /// Ends the program without a word, as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it takes of the machine's memory now, in bytes.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that it ever took, in bytes.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Posts an event as AVR does.
    pub async fn post(&self, body: impl Into<String>) -> Answer {
        self.post_with(&crate::client(), &[], body).await
    }

    /// Posts an event with these headers, over this client's connections.
    pub async fn post_with(
        &self,
        client: &reqwest::Client,
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> Answer {
        let request = client.post(format!("{}/events", self.webhooks)).body(body.into());
        answer(with(request, headers)).await
    }

    /// Posts to this path of the webhook listener with these headers.
    pub async fn post_to(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let request = crate::client().post(format!("{}{path}", self.webhooks)).body(body);
        answer(with(request, headers)).await
    }

    /// Posts a document as BlackBox does.
    pub async fn blackbox(&self, body: impl Into<reqwest::Body>) -> Answer {
        self.post_to("/blackbox", &[], body).await
    }

    /// Posts to the admin listener.
    pub async fn admin_post(&self, path: &str, body: impl Into<String>) -> Answer {
        let client = crate::client();
        answer(client.post(format!("{}{path}", self.admin)).body(body.into())).await
    }

    /// Asks the admin listener to delete something, with these headers.
    pub async fn admin_delete(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = crate::client().delete(format!("{}{path}", self.admin));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request).await
    }

    /// Has the plugin folder looked at now; what changed.
    pub async fn reload(&self) -> Value {
        let answer = self.admin_post("/reload", "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// One line of `GET /metrics`, by all that stands before its value.
    pub async fn metric(&self, series: &str) -> Option<u64> {
        let text = self.metrics().await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// Waits until so many guests run at the same time.
    pub async fn wait_for_guests(&self, at_least: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.metric("plugboard_pool_instances_used").await < Some(at_least) {
            assert!(Instant::now() < deadline, "too few guests:\n{}", self.log_text());
        }
    }

    /// `GET /metrics`.
    pub async fn metrics(&self) -> String {
        let response = crate::client().get(format!("{}/metrics", self.admin)).send().await.unwrap();
        response.text().await.unwrap()
    }

    /// Where the next usual call is sent.
    pub async fn route(&self) -> Option<String> {
        self.post(crate::initiated()).await.sts_url().map(str::to_owned)
    }

    /// Waits until the usual call is sent there.
    pub async fn wait_for_route(&self, url: Option<&str>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.route().await;
            if now.as_deref() == url {
                return;
            }
            assert!(Instant::now() < deadline, "still {now:?}:\n{}", self.log_text());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a line of `GET /metrics` has this value or more.
    pub async fn wait_for_metric(&self, series: &str, at_least: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.metric(series).await < Some(at_least) {
            assert!(Instant::now() < deadline, "{series}:\n{}", self.metrics().await);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a plugin's row of `GET /plugins` is as wanted.
    pub async fn wait_for_plugin(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let listing = self.admin("/plugins").await.body;
            let row = listing["plugins"].as_array().unwrap().iter().find(|row| row["name"] == name);
            if let Some(row) = row.filter(|row| wanted(row)) {
                return row.clone();
            }
            assert!(Instant::now() < deadline, "still {listing}:\n{}", self.log_text());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks the webhook listener.
    pub async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    /// Asks the webhook listener with these headers.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = crate::client().get(format!("{}{path}", self.webhooks));
        answer(with(request, headers)).await
    }

    /// Asks the admin listener.
    pub async fn admin(&self, path: &str) -> Answer {
        self.admin_with(path, &[]).await
    }

    /// Asks the admin listener with these headers.
    pub async fn admin_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = crate::client().get(format!("{}{path}", self.admin));
        answer(with(request, headers)).await
    }

    /// A plugin's row of `GET /plugins`.
    pub async fn plugin(&self, name: &str) -> Value {
        let listing = self.admin("/plugins").await.body;
        let rows = listing["plugins"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == name);
        row.unwrap_or_else(|| panic!("no plugin {name} in {listing}")).clone()
    }

    /// The first line of the log, past or future, that is looked for.
    pub fn wait_for_log(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.log.wait(wanted)
    }

    /// Ends the program; everything that it logged.
    pub fn stop(&mut self) -> String {
        self.terminate();
        assert!(self.wait(), "it ended badly:\n{}", self.log_text());
        self.wait_for_log(|line| line["message"] == "stopped");
        self.log_text()
    }

    /// Every line of the log that was written so far.
    pub fn log_text(&self) -> String {
        self.log.lines.lock().unwrap().text.join("\n")
    }

    /// Asks the program to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks the program to look at its plugins.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Leaves it room for so many more open files.
    pub fn spare_files(&self, more: usize) {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count();
        let most = Some((open + more) as u64);
        let limit = Rlimit { current: most, maximum: most };
        prlimit(Some(self.pid()), Resource::Nofile, limit).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap()).unwrap()
    }

    /// Waits until it has ended; whether it did so well.
    pub fn wait(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log_text());
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn with(request: reqwest::RequestBuilder, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let start = Instant::now();
    let response = request.timeout(PATIENCE).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status, headers, body, text, took: start.elapsed() }
}

#[derive(Default)]
struct Log {
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Default)]
struct Lines {
    text: Vec<String>,
    ended: bool,
}

impl Log {
    fn push(&self, line: String) {
        self.lines.lock().unwrap().text.push(line);
        self.more.notify_all();
    }

    fn end(&self) {
        self.lines.lock().unwrap().ended = true;
        self.more.notify_all();
    }

    fn wait(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lines.lock().unwrap();
        let mut read = 0;
        loop {
            while let Some(line) = lines.text.get(read) {
                read += 1;
                match serde_json::from_str(line) {
                    Ok(line) if wanted(&line) => return line,
                    _ => {}
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let text = || lines.text.join("\n");
            assert!(!lines.ended, "the program ended:\n{}", text());
            assert!(!left.is_zero(), "not in the log:\n{}", text());
            lines = self.more.wait_timeout(lines, left).unwrap().0;
        }
    }
}
