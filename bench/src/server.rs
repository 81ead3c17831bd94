//! The servers that are measured, each in a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::CORES;

/// What the load shows; every request is authenticated.
pub(crate) const SECRET: &str = "a-secret-of-usual-length";

/// For a server to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server, ended when it is dropped.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    child: Child,
}

impl Server {
    /// The bare axum handler; it says its address on standard error.
    pub(crate) fn bare(program: &Path, pinned: bool) -> anyhow::Result<Self> {
        let mut command = on_core(program, pinned);
        command.env("WEBHOOK_SECRET", SECRET).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        let mut address = String::new();
        if let Some(stderr) = child.stderr.take() {
            BufReader::new(stderr).read_line(&mut address)?;
        }
        let url = format!("http://{}/events", address.trim());
        Ok(Self { name: "bare axum handler", url, child })
    }

    /// Plugboard with a folder of plugins, and its log in a file.
    pub(crate) fn plugboard(
        name: &'static str,
        program: &Path,
        plugins: &Path,
        log: File,
        pinned: bool,
    ) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = on_core(program, pinned);
        command.args(["serve", "--admin", "127.0.0.1:0", "--listen"]);
        command.arg(format!("127.0.0.1:{port}")).arg("--plugins").arg(plugins);
        command.env("WEBHOOK_SECRET", SECRET).stderr(log);
        let child = command.spawn().with_context(|| program.display().to_string())?;
        let server = Self { name, url: format!("http://127.0.0.1:{port}/events"), child };
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > PATIENCE {
                bail!("{} does not listen", program.display());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// What the process has used of its core so far, in user and kernel.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        /// Linux's USER_HZ, in which `/proc` counts.
        const TICKS_PER_SECOND: u64 = 100;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name, which may have spaces: utime and stime are 14th and
        // 15th of all.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u64>)
            .sum::<Result<_, _>>()?;
        Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A program on the server's core.
fn on_core(program: &Path, pinned: bool) -> Command {
    crate::load::pinned(program, pinned.then_some(CORES.0))
}

/// A port that is free now. Somebody else could take it in between, which the
/// bench would notice by wrong answers.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
