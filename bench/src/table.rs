//! The result: one table, medians, and ratios to the first server in the same
//! round with their range.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;

use crate::load::Seen;

/// One server in one round.
pub(crate) struct Measured {
    pub(crate) full: Seen,
    /// Of the server, during `full`.
    pub(crate) cpu: Duration,
    pub(crate) fixed: Seen,
}

/// All servers in all rounds.
pub(crate) struct Table {
    rows: Vec<(&'static str, Vec<Measured>)>,
}

impl Table {
    pub(crate) fn new(names: impl Iterator<Item = &'static str>) -> Self {
        Self { rows: names.map(|name| (name, Vec::new())).collect() }
    }

    pub(crate) fn add(&mut self, row: usize, measured: Measured) {
        if let Some((_, rounds)) = self.rows.get_mut(row) {
            rounds.push(measured);
        }
    }

    /// One server's CPU per request as a ratio to another's, by their rows.
    pub(crate) fn compare(&self, row: usize, base: usize) -> Option<String> {
        let ((name, rounds), (base_name, base)) = (self.rows.get(row)?, self.rows.get(base)?);
        let ratio = ratio(rounds, base, cpu_per_request);
        Some(format!("CPU per request, {name} / {base_name}: {ratio}"))
    }

    /// The table as text.
    ///
    /// # Errors
    ///
    /// When nothing was measured.
    pub(crate) fn render(&self, rate: u32) -> anyhow::Result<String> {
        let (_, bare) = self.rows.first().context("nothing was measured")?;
        let mut text = format!(
            "{:<22} {:>10} {:>22} {:>10} {:>22} {:>9} {:>9} {:>16} {:>16}\n",
            "",
            "req/s",
            "/ bare (range)",
            "CPU µs/req",
            "x bare (range)",
            "p50 full",
            "p99 full",
            format!("p50 at {rate}/s"),
            format!("p99 at {rate}/s"),
        );
        for (name, rounds) in &self.rows {
            let median_of = |what: fn(&Measured) -> f64| median(rounds.iter().map(what));
            let ratio = |what: fn(&Measured) -> f64| ratio(rounds, bare, what);
            writeln!(
                text,
                "{name:<22} {:>10.0} {:>22} {:>10.1} {:>22} {:>9} {:>9} {:>16} {:>16}",
                median_of(|m| m.full.per_second),
                ratio(|m| m.full.per_second),
                median_of(cpu_per_request),
                ratio(cpu_per_request),
                micros(median_of(|m| m.full.p50.as_secs_f64())),
                micros(median_of(|m| m.full.p99.as_secs_f64())),
                micros(median_of(|m| m.fixed.p50.as_secs_f64())),
                micros(median_of(|m| m.fixed.p99.as_secs_f64())),
            )?;
        }
        text.push_str("Medians over rounds; every answer was checked.");
        Ok(text)
    }
}

/// Of the same round, with its range.
fn ratio(rounds: &[Measured], base: &[Measured], what: fn(&Measured) -> f64) -> String {
    let ratios: Vec<f64> =
        rounds.iter().zip(base).map(|(row, base)| what(row) / what(base)).collect();
    let (least, most) =
        ratios.iter().fold((f64::MAX, f64::MIN), |(least, most), r| (r.min(least), r.max(most)));
    format!("{:.2} ({least:.2}–{most:.2})", median(ratios.iter().copied()))
}

fn cpu_per_request(measured: &Measured) -> f64 {
    measured.cpu.as_secs_f64() * 1e6 / measured.full.requests as f64
}

fn micros(seconds: f64) -> String {
    format!("{:.0} µs", seconds * 1e6)
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.get(middle.wrapping_sub(1))) {
        (Some(upper), Some(lower)) if values.len().is_multiple_of(2) => {
            f64::midpoint(*lower, *upper)
        }
        (Some(value), _) => *value,
        _ => f64::NAN,
    }
}
