//! Decisions: throughput, CPU and latency beside the bare handler.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;

use crate::folder::{Data, PluginFolder};
use crate::load::{LoadResult, Rate, Workload};
use crate::server::Server;
use crate::stats::{Ratio, median};
use crate::{Bench, FIXED_RATE};

/// Measurements of one server in one round.
struct Measurement {
    full: LoadResult,
    /// CPU time of the server during `full`.
    cpu: Duration,
    fixed: LoadResult,
}

impl Measurement {
    /// CPU time per request at full rate, in microseconds.
    fn cpu_per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.full.requests as f64
    }
}

/// One server with its measurements, a round each.
struct Row {
    name: &'static str,
    rounds: Vec<Measurement>,
}

impl Row {
    fn values(&self, value: fn(&Measurement) -> f64) -> Vec<f64> {
        self.rounds.iter().map(value).collect()
    }

    fn ratio(&self, base: &Self, value: fn(&Measurement) -> f64) -> anyhow::Result<Ratio> {
        Ratio::of(&self.values(value), &base.values(value))
    }
}

/// Measures decisions, and returns a table.
pub(crate) fn measure(bench: &Bench) -> anyhow::Result<String> {
    let one = PluginFolder::number_plan(&bench.samples)?;
    let others = bench.sizes.other_plugins;
    let many = PluginFolder::number_plan(&bench.samples)?.with_others(others, false)?;
    let data = [Data::new()?, Data::new()?, Data::new()?];
    let [first, second, third] = data.each_ref().map(Data::env);
    let uncached = ("PLUGBOARD_CACHE_ENABLED", "false".to_owned());
    let servers = [
        bench.bare()?,
        bench.plugboard("uncached, 1 plugin", one.path(), &[first, uncached.clone()])?,
        bench.plugboard("uncached, +others", many.path(), &[second, uncached])?,
        bench.plugboard("cached decision", one.path(), &[third])?,
    ];
    let mut rows = servers.each_ref().map(|server| Row { name: server.name, rounds: Vec::new() });
    for round in 1..=bench.rounds {
        for (row, server) in rows.iter_mut().zip(&servers) {
            eprintln!("decisions, round {round} of {}: {}", bench.rounds, server.name);
            row.rounds.push(measure_once(bench, server)?);
        }
    }
    let [_, uncached, with_others, _] = &rows;
    let growth = with_others.ratio(uncached, Measurement::cpu_per_request)?;
    Ok(format!(
        "{}{others} other plugins, none of which matches the call: CPU x {growth}\n\
         Medians over {} rounds; every response was checked.",
        render(&rows)?,
        bench.rounds
    ))
}

fn measure_once(bench: &Bench, server: &Server) -> anyhow::Result<Measurement> {
    let before = server.cpu_time()?;
    let full = bench.load.run(&server.url, Workload::Decisions, Rate::Full)?;
    let cpu = server.cpu_time()?.since(&before);
    let fixed = bench.load.run(&server.url, Workload::Decisions, Rate::Fixed(FIXED_RATE))?;
    Ok(Measurement { full, cpu, fixed })
}

fn render(rows: &[Row]) -> anyhow::Result<String> {
    let bare = rows.first().context("no server was measured")?;
    let mut text = format!(
        "{:<20} {:>10} {:>20} {:>10} {:>22} {:>9} {:>9} {:>14} {:>14}\n",
        "decisions",
        "req/s",
        "/ bare (range)",
        "CPU µs/req",
        "x bare (range)",
        "p50 full",
        "p99 full",
        format!("p50 at {FIXED_RATE}/s"),
        format!("p99 at {FIXED_RATE}/s"),
    );
    for row in rows {
        let median_of = |value| median(row.values(value));
        writeln!(
            text,
            "{:<20} {:>10.0} {:>20} {:>10.1} {:>22} {:>9} {:>9} {:>14} {:>14}",
            row.name,
            median_of(|it| it.full.per_second),
            row.ratio(bare, |it| it.full.per_second)?,
            median_of(Measurement::cpu_per_request),
            row.ratio(bare, Measurement::cpu_per_request)?,
            micros(median_of(|it| it.full.p50.as_secs_f64())),
            micros(median_of(|it| it.full.p99.as_secs_f64())),
            micros(median_of(|it| it.fixed.p50.as_secs_f64())),
            micros(median_of(|it| it.fixed.p99.as_secs_f64())),
        )?;
    }
    Ok(text)
}

fn micros(seconds: f64) -> String {
    format!("{:.0} µs", seconds * 1e6)
}
