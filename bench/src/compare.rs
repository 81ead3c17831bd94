//! Comparison: CPU per request of two `plugboard` executables in one run, beside the
//! bare handler.
//!
//! Each round measures every server once. Rounds alternate the order, so that neither
//! binary always runs first. The result is the ratio of both binaries in the same
//! round: its median, its middle half and its range.

use std::fmt::Write;
use std::path::Path;
use std::str::FromStr;

use anyhow::ensure;

use crate::Bench;
use crate::events::{Observed, SENDERS};
use crate::folder::{Data, PluginFolder};
use crate::load::{Rate, Workload};
use crate::server::Server;
use crate::stats::{Ratio, median};

/// Change of the other binary's environment, for versions with other configuration
/// keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvOverride {
    name: String,
    /// None removes the variable.
    value: Option<String>,
}

impl FromStr for EnvOverride {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        ensure!(!name.is_empty(), "the name is missing");
        Ok(Self { name: name.to_owned(), value })
    }
}

/// Applies overrides to environment variables, in their order.
fn apply<'a>(
    overrides: &'a [EnvOverride],
    env: Vec<(&'static str, String)>,
) -> Vec<(&'a str, String)> {
    let mut env: Vec<(&'a str, String)> = env;
    for EnvOverride { name, value } in overrides {
        env.retain(|(existing, _)| existing != name);
        env.extend(value.clone().map(|value| (name.as_str(), value)));
    }
    env
}

/// One of the two compared binaries.
struct Binary<'a> {
    name: &'static str,
    path: &'a Path,
    overrides: &'a [EnvOverride],
}

/// A server with its directories, which are removed with it.
enum Running {
    Bare(Server),
    Router { server: Server, _folder: PluginFolder, _data: Data },
    Observer(Observed),
}

impl Running {
    /// Starts a binary with the sample dial plan.
    fn router(bench: &Bench, binary: &Binary<'_>, is_cached: bool) -> anyhow::Result<Self> {
        let (folder, data) = (PluginFolder::number_plan(&bench.samples)?, Data::new()?);
        let mut env = vec![data.env()];
        if !is_cached {
            env.push(("PLUGBOARD_CACHE_ENABLED", "false".to_owned()));
        }
        let env = apply(binary.overrides, env);
        let server =
            Server::plugboard(binary.name, binary.path, folder.path(), &env, bench.pinned)?;
        Ok(Self::Router { server, _folder: folder, _data: data })
    }

    /// Starts a binary with a disabled observer, so that events are made durable and
    /// not delivered.
    fn observer(bench: &Bench, binary: &Binary<'_>) -> anyhow::Result<Self> {
        let apply = |env| apply(binary.overrides, env);
        let observed = Observed::start(bench, binary.path, binary.name, "full", apply)?;
        observed.enable_observer(false)?;
        Ok(Self::Observer(observed))
    }

    fn server(&self) -> &Server {
        match self {
            Self::Bare(server) | Self::Router { server, .. } => server,
            Self::Observer(observed) => &observed.server,
        }
    }
}

/// One kind of request, with a bare handler and both binaries.
struct Case {
    name: &'static str,
    workload: Workload,
    rate: Rate,
    /// Bare handler, this binary, other binary; each with its CPU time per request in
    /// microseconds, by round.
    servers: [(Running, Vec<f64>); 3],
}

impl Case {
    fn start(
        bench: &Bench,
        name: &'static str,
        workload: Workload,
        rate: Rate,
        [this, other]: &[Binary<'_>; 2],
        start: impl Fn(&Binary<'_>) -> anyhow::Result<Running>,
    ) -> anyhow::Result<Self> {
        eprintln!("compare: starting the servers of: {name}");
        let servers = [Running::Bare(bench.bare()?), start(this)?, start(other)?];
        Ok(Self { name, workload, rate, servers: servers.map(|server| (server, Vec::new())) })
    }

    /// Measures every server once.
    fn measure(&mut self, bench: &Bench, in_reverse: bool) -> anyhow::Result<()> {
        let mut servers: Vec<_> = self.servers.iter_mut().collect();
        if in_reverse {
            servers.reverse();
        }
        for (running, cpu) in servers {
            let server = running.server();
            let before = server.cpu_time()?;
            let load = bench.load.run(&server.url, self.workload, self.rate)?;
            let used = server.cpu_time()?.since(&before);
            cpu.push(used.as_secs_f64() * 1e6 / load.requests as f64);
        }
        Ok(())
    }

    /// Discards the measurements so far.
    fn clear(&mut self) {
        for (_, cpu) in &mut self.servers {
            cpu.clear();
        }
    }

    fn render(&self) -> anyhow::Result<String> {
        let [bare, this, other] = self.servers.each_ref().map(|(_, cpu)| cpu.as_slice());
        let ratio = Ratio::of(this, other)?;
        let span = |(least, greatest)| format!("{least:.3}–{greatest:.3}");
        Ok(format!(
            "{:<20} {:>9.2} {:>9.2} {:>9.2} {:>11.2} {:>12.2} {:>13.3} {:>13} {:>13}",
            self.name,
            median(bare.iter().copied()),
            median(this.iter().copied()),
            median(other.iter().copied()),
            Ratio::of(this, bare)?.median,
            Ratio::of(other, bare)?.median,
            ratio.median,
            span(ratio.middle_half),
            span(ratio.range),
        ))
    }
}

/// Compares this binary with another one, and returns a table.
pub(crate) fn measure(
    bench: &Bench,
    other: &Path,
    overrides: &[EnvOverride],
) -> anyhow::Result<String> {
    // Servers start in other directories.
    let (this, other) = (bench.program(), std::path::absolute(other)?);
    ensure!(other.is_file(), "{} is not a file", other.display());
    let binaries = [
        Binary { name: "this", path: &this, overrides: &[] },
        Binary { name: "other", path: &other, overrides },
    ];
    let start = |name, is_cached| {
        Case::start(bench, name, Workload::Decisions, Rate::Full, &binaries, |binary| {
            Running::router(bench, binary, is_cached)
        })
    };
    let mut cases = [
        start("uncached decision", false)?,
        start("cached decision", true)?,
        Case::start(
            bench,
            "accepted event",
            Workload::Events,
            Rate::FullOver(SENDERS),
            &binaries,
            |binary| Running::observer(bench, binary),
        )?,
    ];
    // Round 0 fills caches and does not count.
    let first = if bench.sizes.has_warm_up { 0 } else { 1 };
    for round in first..=bench.rounds {
        let in_reverse = round % 2 == 0;
        let mut order: Vec<&mut Case> = cases.iter_mut().collect();
        if in_reverse {
            order.reverse();
        }
        for case in order {
            match round {
                0 => eprintln!("compare, warm-up: {}", case.name),
                _ => eprintln!("compare, round {round} of {}: {}", bench.rounds, case.name),
            }
            case.measure(bench, in_reverse)?;
            if round == 0 {
                case.clear();
            }
        }
    }
    let mut text = format!(
        "this:  {}\nother: {}\n\n{:<20} {:>9} {:>9} {:>9} {:>11} {:>12} {:>13} {:>13} {:>13}\n",
        this.display(),
        other.display(),
        "CPU µs per request",
        "bare",
        "this",
        "other",
        "this / bare",
        "other / bare",
        "this / other",
        "middle half",
        "range",
    );
    for case in &cases {
        writeln!(text, "{}", case.render()?)?;
    }
    write!(
        text,
        "Medians over {} rounds in alternating order; ratios are of the same round. Accepted \
         events are durable (sync = full). Every response was checked.",
        bench.rounds
    )?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_set_and_remove_variables() {
        let overrides: Vec<EnvOverride> =
            ["A=x", "B", "C=1=2", "D="].map(|text| text.parse().unwrap()).into();
        let env = vec![("A", "a".to_owned()), ("B", "b".to_owned()), ("E", "e".to_owned())];
        let expected = [("E", "e"), ("A", "x"), ("C", "1=2"), ("D", "")];
        let expected = expected.map(|(name, value)| (name, value.to_owned()));
        assert_eq!(apply(&overrides, env), expected);
        assert!("=x".parse::<EnvOverride>().is_err());
    }
}
