//! Measured servers, each in its own process.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::CORES;
use crate::cpu::CpuTime;

/// Secret of every request.
pub(crate) const SECRET: &str = "a-secret-of-usual-length";

/// Longest wait for a server to listen. One core compiles a hundred plugins in some
/// seconds.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A running server, killed on drop.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    /// Port of the admin listener; the bare handler has none.
    admin: Option<u16>,
    child: Child,
}

impl Server {
    /// Starts the bare axum handler, which prints its address on standard error.
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

    /// Starts a `plugboard` executable with a plugin directory and environment
    /// variables, and waits until it listens. Logs every decision into a file, as in
    /// production.
    ///
    /// # Errors
    ///
    /// If the server ends or does not listen, or if its log names one of the variables.
    pub(crate) fn plugboard(
        name: &'static str,
        program: &Path,
        plugins: &Path,
        env: &[(&str, String)],
        pinned: bool,
    ) -> anyhow::Result<Self> {
        let (port, admin) = (free_port()?, free_port()?);
        let mut command = on_core(program, pinned);
        command.args(["serve", "--admin", &format!("127.0.0.1:{admin}"), "--listen"]);
        command.arg(format!("127.0.0.1:{port}")).arg("--plugins").arg(plugins);
        let log = tempfile::tempfile()?;
        command.env("WEBHOOK_SECRET", SECRET).stderr(log.try_clone()?);
        command.envs(env.iter().cloned());
        // This directory has no plugboard.toml.
        command.current_dir(plugins);
        let child = command.spawn().with_context(|| program.display().to_string())?;
        let url = format!("http://127.0.0.1:{port}/events");
        let mut server = Self { name, url, admin: Some(admin), child };
        let start = Instant::now();
        let is_listening = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        // The admin listener may come a moment later.
        while !(is_listening(port) && is_listening(admin)) {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended ({status}):\n{}", program.display(), beginning(&log)?);
            }
            if start.elapsed() > START_TIMEOUT {
                bail!("{} does not listen:\n{}", program.display(), beginning(&log)?);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let log = beginning(&log)?;
        if let Some((name, _)) = env.iter().find(|(name, _)| log.contains(name)) {
            bail!(
                "{} does not accept the environment variable {name}; --compare-env can remove or \
                 replace it for the other binary. Its log:\n{log}",
                program.display()
            );
        }
        Ok(server)
    }

    /// Returns the resident memory of the process in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kilobytes.context("no VmRSS in /proc")?.parse::<u64>()? * 1024)
    }

    /// Returns one value of the first plugin in `GET /plugins`, by its JSON pointer;
    /// null if it is missing.
    pub(crate) fn plugin(&self, pointer: &str) -> anyhow::Result<Value> {
        let port = self.admin.context("the server has no admin listener")?;
        let request = format!("GET /plugins HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n");
        let response = exchange(&format!("127.0.0.1:{port}"), &request, "")?;
        let (_, body) = response.split_once("\r\n\r\n").context("no body")?;
        let listing: Value = serde_json::from_str(body).with_context(|| response.clone())?;
        let plugin = listing.pointer("/plugins/0");
        let plugin = plugin.with_context(|| format!("no plugin in the response:\n{response}"))?;
        Ok(plugin.pointer(pointer).cloned().unwrap_or_default())
    }

    /// Posts the start of a new call, and returns the response.
    pub(crate) fn decide(&self) -> anyhow::Result<String> {
        let (address, path) =
            self.url.trim_start_matches("http://").split_once('/').context("no path")?;
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        let body = format!(
            "{{\"uuid\":\"{nanos}\",\"type\":\"call_initiated\",\
             \"timestamp\":\"2026-01-01T00:00:00Z\",\"payload\":{{\"to\":\"5001\"}}}}"
        );
        let request = format!(
            "POST /{path} HTTP/1.1\r\nHost: {address}\r\nX-AVR-WEBHOOK-SECRET: {SECRET}\r\n\
             Content-Length: {}\r\n",
            body.len()
        );
        exchange(address, &request, &body)
    }

    /// Returns the CPU time that the process has used.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<CpuTime> {
        CpuTime::of(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Returns a command on the server's core, without this process's environment.
fn on_core(program: &Path, pinned: bool) -> Command {
    let mut command = crate::load::pinned(program, pinned.then_some(CORES.0));
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// Sends a request over a new connection, and returns the response as text.
fn exchange(address: &str, request: &str, body: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "{request}Connection: close\r\n\r\n{body}")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

/// Returns the first 16 KiB of a log. Does not move the offset at which the server
/// writes.
fn beginning(log: &File) -> std::io::Result<String> {
    let mut buffer = vec![0; 16 << 10];
    let length = log.read_at(&mut buffer, 0)?;
    buffer.truncate(length);
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

/// Returns a free port. Another process can take it before the server does; wrong
/// responses would show that.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
