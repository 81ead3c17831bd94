//! Plugins in other languages: one router per language, alone in its server, beside the
//! one in Rust.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::Bench;
use crate::folder::{Data, PluginFolder};
use crate::load::{Rate, Workload};
use crate::server::Server;
use crate::stats::{Ratio, median};

/// Samples: language, file, and settings that route the call as the load expects. The first
/// sample is the base of the ratios.
const SAMPLES: [(&str, &str, &str); 3] = [
    ("Rust", "10-number-plan.wasm", "[config]\n5001 = 'ws://avr-sts-openai:6030/?uuid={id}'\n"),
    (
        "JavaScript",
        "85-javascript-skills.wasm",
        "[config.numbers]\n5001 = ['sales']\n[[config.services]]\nskills = ['sales']\ncost = 1\n\
         sts_url = 'ws://avr-sts-openai:6030/?uuid={id}'\n",
    ),
    (
        "Python",
        "80-python-languages.wasm",
        // The load calls from 2000, which has no country prefix.
        "[config]\notherwise = 'en'\n[config.prefixes]\n1 = 'en'\n[config.languages.en]\n\
         sts_url = 'ws://avr-sts-openai:6030/?uuid={id}'\n",
    ),
];

/// Many calls share one core, so each waits longer than in production.
const TIMEOUT_SETTINGS: &str = "[limits]\ntimeout = '2s'\n";

/// Measurements of one sample.
struct Row {
    language: &'static str,
    /// Size of the component in bytes.
    size: u64,
    /// Start with an empty compile cache, and its CPU time.
    cold_start: (Duration, Duration),
    /// Starts with a warm compile cache, in seconds.
    warm_starts: Vec<f64>,
    /// CPU time per decision in seconds, by round.
    cpu: Vec<f64>,
    /// Median latency over one connection in seconds, by round.
    latency: Vec<f64>,
    /// Resident bytes beyond a server without plugins, before and after the load.
    memory: (f64, f64),
}

/// A server with its directories, which are removed with it.
struct Running {
    server: Server,
    folder: PluginFolder,
    data: Data,
}

impl Running {
    /// Starts a server without the decision cache, and returns the time that takes.
    fn start(bench: &Bench, folder: PluginFolder, data: Data) -> anyhow::Result<(Self, Duration)> {
        let env = [data.env(), ("PLUGBOARD_CACHE_ENABLED", "false".to_owned())];
        let begin = Instant::now();
        let server = bench.plugboard("languages", folder.path(), &env)?;
        let time = begin.elapsed();
        Ok((Self { server, folder, data }, time))
    }

    /// Stops the server and starts it again with the same data.
    fn restart(self, bench: &Bench) -> anyhow::Result<(Self, Duration)> {
        let Self { server, folder, data } = self;
        // Two servers cannot share a data directory.
        drop(server);
        Self::start(bench, folder, data)
    }
}

/// Measures every language whose sample is built, and returns a table.
pub(crate) fn measure(bench: &Bench) -> anyhow::Result<String> {
    let base = Running::start(bench, PluginFolder::empty()?, Data::new()?)?.0.server.resident()?;
    let beyond_base = |server: &Server| anyhow::Ok(server.resident()?.saturating_sub(base) as f64);
    let (mut rows, mut servers, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (language, file, settings) in SAMPLES {
        let sample = bench.samples.join(file);
        if !sample.exists() {
            missing.push(language);
            continue;
        }
        eprintln!("languages: starts of {language}");
        let settings = format!("{settings}{TIMEOUT_SETTINGS}");
        let folder = PluginFolder::sample(&sample, &settings)?;
        let (mut running, cold) = Running::start(bench, folder, Data::new()?)?;
        let compile_cpu = running.server.cpu_time()?.total;
        let mut warm_starts = Vec::new();
        for _ in 0..bench.sizes.warm_starts {
            let (restarted, time) = running.restart(bench)?;
            warm_starts.push(time.as_secs_f64());
            running = restarted;
        }
        let response = running.server.decide()?;
        ensure!(response.contains("avr-sts-openai"), "{language} does not route:\n{response}");
        rows.push(Row {
            language,
            size: std::fs::metadata(&sample)?.len(),
            cold_start: (cold, compile_cpu),
            warm_starts,
            cpu: Vec::new(),
            latency: Vec::new(),
            memory: (beyond_base(&running.server)?, 0.0),
        });
        servers.push(running);
    }
    for round in 1..=bench.rounds {
        for (row, Running { server, .. }) in rows.iter_mut().zip(&servers) {
            eprintln!("languages, round {round} of {}: {}", bench.rounds, row.language);
            let before = server.cpu_time()?;
            let full = bench.load.run(&server.url, Workload::Decisions, Rate::Full)?;
            let cpu = server.cpu_time()?.since(&before);
            row.cpu.push(cpu.as_secs_f64() / full.requests as f64);
            let single = bench.load.run(&server.url, Workload::Decisions, Rate::FullOver(1))?;
            row.latency.push(single.p50.as_secs_f64());
        }
    }
    for (row, running) in rows.iter_mut().zip(&servers) {
        row.memory.1 = beyond_base(&running.server)?;
    }
    render(&rows, &missing)
}

fn render(rows: &[Row], missing: &[&str]) -> anyhow::Result<String> {
    const MIB: f64 = 1024.0 * 1024.0;
    let base = rows.first().context("no sample is built")?;
    let mut text = format!(
        "{:<12} {:>10} {:>20} {:>12} {:>12} {:>20} {:>12} {:>10} {:>10}\n",
        "plugin in",
        "file",
        "first start (CPU)",
        "next start",
        "CPU µs/call",
        "x Rust (range)",
        "p50 1 sender",
        "idle",
        "after load",
    );
    for row in rows {
        let (cold, compile_cpu) = row.cold_start;
        writeln!(
            text,
            "{:<12} {:>10} {:>20} {:>12} {:>12.0} {:>20.1} {:>12} {:>10} {:>10}",
            row.language,
            format!("{:.2} MiB", row.size as f64 / MIB),
            format!("{:.2} s ({:.2} s)", cold.as_secs_f64(), compile_cpu.as_secs_f64()),
            format!("{:.3} s", median(row.warm_starts.iter().copied())),
            median(row.cpu.iter().copied()) * 1e6,
            Ratio::of(&row.cpu, &base.cpu)?,
            format!("{:.0} µs", median(row.latency.iter().copied()) * 1e6),
            format!("{:.1} MiB", row.memory.0 / MIB),
            format!("{:.1} MiB", row.memory.1 / MIB),
        )?;
    }
    for language in missing {
        writeln!(text, "{language:<12} not built; `cargo xtask languages` reports why")?;
    }
    write!(
        text,
        "One server per language, without the decision cache. The first start compiles the plugin; \
         the next ones use the compile cache."
    )?;
    Ok(text)
}
