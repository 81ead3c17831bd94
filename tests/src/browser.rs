//! A real Chromium that does as it is told, by `tests/page/page.mjs`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Server, skip_or_fail_in_ci, target_folder};

/// For one order: more than the browser's own patience.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(240);

/// Between two looks at whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Where `cargo xtask test` installs what drives the browser, and where screenshots go.
const BROWSER_FOLDER: &str = "page";

/// A browser with one page; ended with the test.
pub struct Browser {
    child: Child,
    /// None: it is to end.
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Browser {
    /// A browser, if this machine has what it takes; else says why there is none.
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
        let orders = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, commands: orders, answers }
    }

    /// Has it do something, with these details; what it says to that.
    pub fn send_command(&mut self, name: &str, details: &Value) -> Value {
        let mut command = details.clone();
        command["do"] = json!(name);
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        let line = self.answers.recv_timeout(COMMAND_TIMEOUT);
        let line = line.unwrap_or_else(|error| panic!("no answer to {command}: {error}"));
        let answer: Value = serde_json::from_str(&line).unwrap();
        if let Some(why) = answer["failed"].as_str() {
            panic!("{why}");
        }
        answer["ok"].clone()
    }

    /// Opens the page of a server, or loads it again; what came with it.
    pub fn open(&mut self, server: &Server) -> Value {
        let url = format!("http://{}/", server.admin_address());
        self.send_command("open", &json!({"url": url}))
    }

    /// Opens the page of a server, and waits until it hears from it.
    pub fn open_live(&mut self, server: &Server) {
        assert_eq!(self.open(server)["status"], 200);
        self.wait_for_text("#health", "live");
    }

    /// Waits until an element of this kind with this text in it is to be seen; all of its text.
    pub fn wait_for_text(&mut self, selector: &str, text: &str) -> String {
        let element_text = self.send_command("see", &json!({"at": selector, "text": text}));
        element_text.as_str().unwrap().to_owned()
    }

    /// Waits until there is none.
    pub fn wait_until_gone(&mut self, selector: &str, text: &str) {
        self.send_command("gone", &json!({"at": selector, "text": text}));
    }

    /// How many elements of this kind there are.
    pub fn count(&mut self, selector: &str) -> u64 {
        self.send_command("count", &json!({"at": selector})).as_u64().unwrap()
    }

    /// Presses the button with this name.
    pub fn click(&mut self, name: &str) {
        self.send_command("click", &json!({"role": "button", "name": name}));
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        self.send_command("press", &json!({"key": key}));
    }

    /// Writes into the field with this name.
    pub fn fill(&mut self, role: &str, name: &str, value: &str) {
        self.send_command("fill", &json!({"role": role, "name": name, "value": value}));
    }

    /// What the browser complained about that is not expected, and everything that it asked
    /// anybody but this server.
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
        unexpected.extend(elsewhere.map(|origin| format!("asked {origin}")));
        unexpected
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without orders to come it ends, and its browser with it.
        self.commands = None;
        let deadline = Instant::now() + COMMAND_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Where a program is, if it is installed.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
