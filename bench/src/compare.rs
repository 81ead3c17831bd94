//! Comparison: CPU per request of two `plugboard` executables in one run, beside the
//! bare handler.
//!
//! Each round measures both binaries twice: one, the other, the other, the one. Rounds
//! alternate which comes first. A drift of the machine within a round therefore affects
//! both alike. New processes start every few rounds, because the layout of a process in
//! memory changes its speed by several per cent for as long as it runs. The result is the
//! ratio of both binaries in the same round: its median, its middle half and its range.

use std::fmt::Write;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

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

/// Rounds that a process serves before a new one replaces it.
const ROUNDS_PER_PROCESS: usize = 8;

/// Indices of the servers of a [`Case`].
const BARE: usize = 0;
const THIS: usize = 1;
const OTHER: usize = 2;

/// Servers of a case in the order of their measurements in a round.
fn order(round: u32) -> [usize; 5] {
    if round.is_multiple_of(2) {
        [OTHER, THIS, THIS, OTHER, BARE]
    } else {
        [BARE, THIS, OTHER, OTHER, THIS]
    }
}

/// CPU time and answered requests of a server in one round.
#[derive(Clone, Copy, Default)]
struct Sum {
    cpu: Duration,
    requests: u64,
}

/// One kind of request, with a bare handler and both binaries.
struct Case<'a> {
    name: &'static str,
    workload: Workload,
    rate: Rate,
    start: StartServer<'a>,
    /// CPU time per request of each server in microseconds, by round.
    cpu: [Vec<f64>; 3],
}

/// Starts one of the two binaries.
type StartServer<'a> = Box<dyn Fn(&Binary<'_>) -> anyhow::Result<Running> + 'a>;

impl Case<'_> {
    /// Starts the servers: bare handler, this binary, other binary.
    fn start(
        &self,
        bench: &Bench,
        [this, other]: &[Binary<'_>; 2],
    ) -> anyhow::Result<[Running; 3]> {
        let servers = [Running::Bare(bench.bare()?), (self.start)(this)?, (self.start)(other)?];
        if bench.sizes.has_warm_up {
            // Fills caches and does not count.
            for running in &servers {
                bench.load.run(&running.server().url, self.workload, self.rate)?;
            }
        }
        Ok(servers)
    }

    /// Measures every server in one round.
    fn measure(&mut self, bench: &Bench, servers: &[Running; 3], round: u32) -> anyhow::Result<()> {
        let mut sums = [Sum::default(); 3];
        for nth in order(round) {
            let (Some(running), Some(sum)) = (servers.get(nth), sums.get_mut(nth)) else {
                continue;
            };
            let server = running.server();
            let before = server.cpu_time()?;
            let load = bench.load.run(&server.url, self.workload, self.rate)?;
            sum.cpu += server.cpu_time()?.since(&before);
            sum.requests += load.requests;
        }
        for (cpu, sum) in self.cpu.iter_mut().zip(sums) {
            cpu.push(sum.cpu.as_secs_f64() * 1e6 / sum.requests as f64);
        }
        Ok(())
    }

    fn render(&self) -> anyhow::Result<String> {
        let [bare, this, other] = self.cpu.each_ref().map(Vec::as_slice);
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
    let case = |name, workload, rate, start| Case {
        name,
        workload,
        rate,
        start,
        cpu: [const { Vec::new() }; 3],
    };
    let decisions = |name, is_cached| {
        let start = move |binary: &Binary<'_>| Running::router(bench, binary, is_cached);
        case(name, Workload::Decisions, Rate::Full, Box::new(start))
    };
    let observer = |binary: &Binary<'_>| Running::observer(bench, binary);
    let mut cases = [
        decisions("uncached decision", false),
        decisions("cached decision", true),
        case("accepted event", Workload::Events, Rate::FullOver(SENDERS), Box::new(observer)),
    ];
    let rounds: Vec<u32> = (1..=bench.rounds).collect();
    for rounds in rounds.chunks(ROUNDS_PER_PROCESS) {
        let mut servers = Vec::new();
        for case in &cases {
            eprintln!("compare: starting the servers of: {}", case.name);
            servers.push(case.start(bench, &binaries)?);
        }
        for round in rounds {
            for (case, servers) in cases.iter_mut().zip(&servers) {
                eprintln!("compare, round {round} of {}: {}", bench.rounds, case.name);
                case.measure(bench, servers, *round)?;
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
        "Medians over {} rounds of two measurements each, new processes every \
         {ROUNDS_PER_PROCESS} rounds; ratios are of the same round. Accepted events are \
         durable (sync = full). Every response was checked.",
        bench.rounds
    )?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_round_is_fair_to_both_binaries() {
        for round in 1..5 {
            let order = order(round);
            let positions = |server| -> usize {
                order.iter().enumerate().filter(|(_, it)| **it == server).map(|(at, _)| at).sum()
            };
            assert_eq!(positions(THIS), positions(OTHER), "{order:?}");
        }
    }

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
