//! The servers that are measured, each in a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::CORES;

/// What the load shows; every request is authenticated.
pub(crate) const SECRET: &str = "a-secret-of-usual-length";

/// For a server to listen: on one core, a hundred plugins take some seconds to
/// be compiled.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server, ended when it is dropped.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    /// Where operators ask; none of the bare handler.
    admin: Option<u16>,
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
        Ok(Self { name: "bare axum handler", url, admin: None, child })
    }

    /// Plugboard with a folder of plugins, some settings, and its log in a file.
    pub(crate) fn plugboard(
        name: &'static str,
        program: &Path,
        plugins: &Path,
        settings: &[(&str, String)],
        pinned: bool,
    ) -> anyhow::Result<Self> {
        let (port, admin) = (free_port()?, free_port()?);
        let mut command = on_core(program, pinned);
        command.args(["serve", "--admin", &format!("127.0.0.1:{admin}"), "--listen"]);
        command.arg(format!("127.0.0.1:{port}")).arg("--plugins").arg(plugins);
        // Every decision with its line in the log, as in production.
        command.env("WEBHOOK_SECRET", SECRET).stderr(tempfile::tempfile()?);
        command.envs(settings.iter().cloned());
        let child = command.spawn().with_context(|| program.display().to_string())?;
        let url = format!("http://127.0.0.1:{port}/events");
        let server = Self { name, url, admin: Some(admin), child };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > PATIENCE {
                bail!("{} does not listen", program.display());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(server)
    }

    /// The memory that the process has of the machine, in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kilobytes.context("no VmRSS in /proc")?.parse::<u64>()? * 1024)
    }

    /// What the operator is told of the first plugin, by its path in the row; null
    /// when it is not there.
    pub(crate) fn plugin(&self, path: &str) -> anyhow::Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin.context("no operator")?))?;
        write!(stream, "GET /plugins HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
        let listing: Value = serde_json::from_str(body)?;
        let row = listing.pointer("/plugins/0").context("no plugin")?;
        Ok(row.pointer(path).cloned().unwrap_or_default())
    }

    /// Where a call of the load is sent.
    pub(crate) fn ask(&self) -> anyhow::Result<String> {
        let (address, path) =
            self.url.trim_start_matches("http://").split_once('/').context("no path")?;
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        let body = format!(
            "{{\"uuid\":\"{nanos}\",\"type\":\"call_initiated\",\
             \"timestamp\":\"2026-01-01T00:00:00Z\",\"payload\":{{\"to\":\"5001\"}}}}"
        );
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "POST /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             X-AVR-WEBHOOK-SECRET: {SECRET}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
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
