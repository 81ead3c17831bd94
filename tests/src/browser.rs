//! A real Chromium that does as it is told, by `tests/page/page.mjs`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Server, lacking, target};

/// For one order: more than the browser's own patience.
const PATIENCE: Duration = Duration::from_secs(240);

/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Where `cargo xtask test` installs what drives the browser, and where screenshots go.
const FOLDER: &str = "page";

/// A browser with one page; ended with the test.
pub struct Browser {
    child: Child,
    /// None: it is to end.
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Browser {
    /// A browser, if this machine has what it takes; else says why there is none.
    pub fn start() -> Option<Self> {
        match Self::command() {
            Ok(command) => Some(Self::spawn(command)),
            Err(reason) => {
                lacking(&format!("the page in a browser: {reason}"));
                None
            }
        }
    }

    fn command() -> Result<Command, String> {
        let node = installed("node").ok_or("node is not installed")?;
        let chromium = installed("chromium").ok_or("chromium is not installed")?;
        let folder = target().join(FOLDER);
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
        Self { child, orders, answers }
    }

    /// Has it do something, with these details; what it says to that.
    pub fn order(&mut self, name: &str, details: &Value) -> Value {
        let mut order = details.clone();
        order["do"] = json!(name);
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        let line = self.answers.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|error| panic!("no answer to {order}: {error}"));
        let answer: Value = serde_json::from_str(&line).unwrap();
        if let Some(why) = answer["failed"].as_str() {
            panic!("{why}");
        }
        answer["ok"].clone()
    }

    /// Opens the page of a server, or loads it again; what came with it.
    pub fn open(&mut self, server: &Server) -> Value {
        let url = format!("http://{}/", server.admin_address());
        self.order("open", &json!({"url": url}))
    }

    /// Opens the page of a server, and waits until it hears from it.
    pub fn follow(&mut self, server: &Server) {
        assert_eq!(self.open(server)["status"], 200);
        self.see("#health", "live");
    }

    /// Waits until an element of this kind with this text in it is to be seen; all of its text.
    pub fn see(&mut self, at: &str, text: &str) -> String {
        let seen = self.order("see", &json!({"at": at, "text": text}));
        seen.as_str().unwrap().to_owned()
    }

    /// Waits until there is none.
    pub fn gone(&mut self, at: &str, text: &str) {
        self.order("gone", &json!({"at": at, "text": text}));
    }

    /// How many elements of this kind there are.
    pub fn count(&mut self, at: &str) -> u64 {
        self.order("count", &json!({"at": at})).as_u64().unwrap()
    }

    /// Presses the button with this name.
    pub fn click(&mut self, name: &str) {
        self.order("click", &json!({"role": "button", "name": name}));
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        self.order("press", &json!({"key": key}));
    }

    /// Writes into the field with this name.
    pub fn fill(&mut self, role: &str, name: &str, value: &str) {
        self.order("fill", &json!({"role": role, "name": name, "value": value}));
    }

    /// What the browser complained about that is not expected, and everything that it asked
    /// anybody but this server.
    pub fn complaints(&mut self, server: &Server, expected: &[&str]) -> Vec<String> {
        let told = self.order("complaints", &json!({}));
        let texts = |name: &str| -> Vec<String> {
            let all = told[name].as_array().unwrap().iter();
            all.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let own = format!("http://{}", server.admin_address());
        let mut found = texts("complaints");
        found.retain(|complaint| !expected.iter().any(|known| complaint.contains(known)));
        let elsewhere = texts("origins").into_iter().filter(|origin| *origin != own);
        found.extend(elsewhere.map(|origin| format!("asked {origin}")));
        found
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without orders to come it ends, and its browser with it.
        self.orders = None;
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Where a program is, if it is installed.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
