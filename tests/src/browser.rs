//! A real Chromium that executes the tests' commands through `tests/page/page.mjs`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Server, skip_or_fail_in_ci, target_folder};

/// Time limit of one command. It is longer than the time limit of the browser's actions.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(240);

/// Interval between checks that the browser's process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Subfolder of the target folder with the installed packages and the screenshots.
const BROWSER_FOLDER: &str = "page";

/// Browser with one page. Dropping it ends its process.
pub struct Browser {
    child: Child,
    /// Standard input of the process; `None` asks it to end.
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Browser {
    /// Starts a browser. Reports a skipped test and returns `None` if a program is missing.
    pub fn start() -> Option<Self> {
        match Self::command() {
            Ok(command) => Some(Self::spawn(command)),
            Err(reason) => {
                skip_or_fail_in_ci(&format!("the page in a browser: {reason}"));
                None
            }
        }
    }

    fn command() -> Result<Command, String> {
        let node = find_program("node").ok_or("node is not installed")?;
        let chromium = find_program("chromium").ok_or("chromium is not installed")?;
        let folder = target_folder().join(BROWSER_FOLDER);
        if !folder.join("node_modules/playwright-core/package.json").exists() {
            let folder = folder.display();
            return Err(format!("no playwright-core in {folder}; run `cargo xtask test`"));
        }
        let mut command = Command::new(node);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/page/page.mjs");
        command.arg(script).arg(chromium).arg(folder);
        Ok(command)
    }

    fn spawn(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let commands = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, commands, answers }
    }

    /// Sends a command with its parameters, and returns the answer. Panics if it fails.
    pub fn send_command(&mut self, name: &str, details: &Value) -> Value {
        let mut command = details.clone();
        command["do"] = json!(name);
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        let line = self.answers.recv_timeout(COMMAND_TIMEOUT);
        let line = line.unwrap_or_else(|error| panic!("no answer to {command}: {error}"));
        let answer: Value = serde_json::from_str(&line).unwrap();
        if let Some(reason) = answer["failed"].as_str() {
            panic!("{reason}");
        }
        answer["ok"].clone()
    }

    /// Opens or reloads the page of a server, and returns the response's status and headers.
    pub fn open(&mut self, server: &Server) -> Value {
        let url = format!("http://{}/", server.admin_address());
        self.send_command("open", &json!({"url": url}))
    }

    /// Opens the page of a server, and waits until its live feed is connected.
    pub fn open_live(&mut self, server: &Server) {
        assert_eq!(self.open(server)["status"], 200);
        self.wait_for_text("#health", "live");
    }

    /// Waits until an element that contains this text is visible, and returns all of its text.
    pub fn wait_for_text(&mut self, selector: &str, text: &str) -> String {
        let element_text = self.send_command("see", &json!({"at": selector, "text": text}));
        element_text.as_str().unwrap().to_owned()
    }

    /// Waits until no element with this text is visible.
    pub fn wait_until_gone(&mut self, selector: &str, text: &str) {
        self.send_command("gone", &json!({"at": selector, "text": text}));
    }

    /// Returns the number of elements that match a selector.
    pub fn count(&mut self, selector: &str) -> u64 {
        self.send_command("count", &json!({"at": selector})).as_u64().unwrap()
    }

    /// Clicks the button with this accessible name.
    pub fn click(&mut self, name: &str) {
        self.send_command("click", &json!({"role": "button", "name": name}));
    }

    /// Presses a key or a combination of keys.
    pub fn press(&mut self, key: &str) {
        self.send_command("press", &json!({"key": key}));
    }

    /// Fills the field with this role and accessible name.
    pub fn fill(&mut self, role: &str, name: &str, value: &str) {
        self.send_command("fill", &json!({"role": role, "name": name, "value": value}));
    }

    /// Returns the browser's complaints that are not expected, and the origins of its requests
    /// to other servers.
    pub fn unexpected_complaints(&mut self, server: &Server, expected: &[&str]) -> Vec<String> {
        let answer = self.send_command("complaints", &json!({}));
        let texts = |name: &str| -> Vec<String> {
            let all = answer[name].as_array().unwrap().iter();
            all.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let own = format!("http://{}", server.admin_address());
        let mut unexpected = texts("complaints");
        unexpected.retain(|complaint| !expected.iter().any(|known| complaint.contains(known)));
        let elsewhere = texts("origins").into_iter().filter(|origin| *origin != own);
        unexpected.extend(elsewhere.map(|origin| format!("request to {origin}")));
        unexpected
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The process and its browser end when standard input is closed.
        self.commands = None;
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Returns the path of an installed program.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
