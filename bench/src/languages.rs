//! What it costs to write a plugin in another language: a router of each, alone in
//! its server, in comparison to the one in Rust.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::folder::{Data, Folder};
use crate::load::{Load, Rate};
use crate::server::Server;
use crate::table::median;

/// The samples: the language, the file, and settings by which it sends the number that
/// the load calls where the load expects it. The first one is what others are compared to.
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
        // The load calls from 2000, which is in no country.
        "[config]\notherwise = 'en'\n[config.prefixes]\n1 = 'en'\n[config.languages.en]\n\
         sts_url = 'ws://avr-sts-openai:6030/?uuid={id}'\n",
    ),
];

/// Many wait for one core here.
const TIME: &str = "[limits]\ntimeout = '2s'\n";

/// How often a start from the compile cache is measured.
const STARTS: u32 = 5;

/// What was measured of one sample.
struct Row {
    language: &'static str,
    size: u64,
    /// The first start, and what it took of the processor; then a start from the compile
    /// cache, in seconds.
    first: Duration,
    compiling: Duration,
    second: f64,
    /// Of a decision, in seconds of the server's processor.
    cpu: Vec<f64>,
    /// Of a decision, from one call to the next.
    latency: Vec<f64>,
    /// Beyond a server without plugins, in bytes: idle, and after the load.
    idle: f64,
    busy: f64,
}

/// Measures, and tells in a table.
pub(crate) fn measure(
    programs: &Path,
    samples: &Path,
    load: &Load,
    rounds: u32,
    pinned: bool,
) -> anyhow::Result<String> {
    let start = |folder: &Folder, data: &Data| {
        let settings = [
            ("PLUGBOARD_DATA", data.path().display().to_string()),
            ("PLUGBOARD_CACHE_ENABLED", "false".to_owned()),
        ];
        let begin = Instant::now();
        let program = programs.join("plugboard");
        let server = Server::plugboard("languages", &program, folder.path(), &settings, pinned)?;
        anyhow::Ok((server, begin.elapsed()))
    };
    let empty = start(&Folder::empty()?, &Data::new()?)?.0.resident()?;
    let beyond = |server: &Server| anyhow::Ok(server.resident()?.saturating_sub(empty) as f64);
    let (mut rows, mut servers, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (language, file, settings) in SAMPLES {
        let sample = samples.join(file);
        if !sample.exists() {
            missing.push(language);
            continue;
        }
        eprintln!("languages: starts of {language}");
        let settings = format!("{settings}{TIME}");
        let (folder, data) = (Folder::of_sample(&sample, &settings)?, Data::new()?);
        // Ended before the next one starts, as they share the data folder.
        let (server, first) = start(&folder, &data)?;
        let compiling = server.cpu_time()?;
        drop(server);
        let mut seconds = Vec::new();
        for _ in 0..STARTS {
            let (server, took) = start(&folder, &data)?;
            seconds.push(took.as_secs_f64());
            drop(server);
        }
        let (server, took) = start(&folder, &data)?;
        seconds.push(took.as_secs_f64());
        ensure!(server.ask()?.contains("avr-sts-openai"), "{language} does not route the call");
        let (second, idle) = (median(seconds.into_iter()), beyond(&server)?);
        let size = std::fs::metadata(&sample)?.len();
        let (cpu, latency) = (Vec::new(), Vec::new());
        rows.push(Row { language, size, first, compiling, second, cpu, latency, idle, busy: 0.0 });
        servers.push((server, folder, data));
    }
    for round in 1..=rounds {
        for (row, (server, ..)) in rows.iter_mut().zip(&servers) {
            eprintln!("languages, round {round} of {rounds}: {}", row.language);
            let before = server.cpu_time()?;
            let full = load.run(&server.url, Rate::Full)?;
            let used = server.cpu_time()?.saturating_sub(before);
            row.cpu.push(used.as_secs_f64() / full.requests as f64);
            let one = load.run(&server.url, Rate::Many(1))?;
            row.latency.push(one.p50.as_secs_f64());
        }
    }
    for (row, (server, ..)) in rows.iter_mut().zip(&servers) {
        row.busy = beyond(server)?;
    }
    render(&rows, &missing)
}

fn render(rows: &[Row], missing: &[&str]) -> anyhow::Result<String> {
    const MIB: f64 = 1024.0 * 1024.0;
    let base = rows.first().context("no sample is built")?;
    let mut text = format!(
        "{:<12} {:>10} {:>22} {:>12} {:>12} {:>20} {:>12} {:>10} {:>10}\n",
        "plugin in",
        "file",
        "first start (CPU)",
        "next start",
        "CPU µs/call",
        "x Rust (range)",
        "p50 1 call",
        "idle",
        "after load",
    );
    for row in rows {
        let ratios: Vec<f64> =
            row.cpu.iter().zip(&base.cpu).map(|(row, base)| row / base).collect();
        let least = ratios.iter().copied().fold(f64::MAX, f64::min);
        let most = ratios.iter().copied().fold(f64::MIN, f64::max);
        writeln!(
            text,
            "{:<12} {:>10} {:>22} {:>12} {:>12.0} {:>20} {:>12} {:>10} {:>10}",
            row.language,
            format!("{:.2} MiB", row.size as f64 / MIB),
            format!("{:.2} s ({:.2} s)", row.first.as_secs_f64(), row.compiling.as_secs_f64()),
            format!("{:.3} s", row.second),
            median(row.cpu.iter().copied()) * 1e6,
            format!("{:.1} ({least:.1}–{most:.1})", median(ratios.iter().copied())),
            format!("{:.0} µs", median(row.latency.iter().copied()) * 1e6),
            format!("{:.1} MiB", row.idle / MIB),
            format!("{:.1} MiB", row.busy / MIB),
        )?;
    }
    for language in missing {
        writeln!(text, "{language:<12} not built; `cargo xtask languages` says why")?;
    }
    write!(
        text,
        "Each alone in its server, without the cache of decisions. The first start compiles, the \
         next ones take what it kept."
    )?;
    Ok(text)
}
