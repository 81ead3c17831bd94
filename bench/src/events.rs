//! Events: how many are accepted (durable) in comparison to a handler that only
//! reads and acknowledges them, how long it takes until an observer has them, and
//! what a large backlog takes.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::folder::{Data, Folder};
use crate::load::{Load, Posted, Rate};
use crate::server::Server;
use crate::table::median;

/// Senders at the same time: what waits for the disk together is written together.
const SENDERS: u32 = 256;

/// Events of the backlog.
const BACKLOG: u64 = 1_000_000;

/// For the backlog to be posted.
const PATIENCE: Duration = Duration::from_secs(180);

/// Of events, below saturation.
const FIXED_RATE: u32 = 2_000;

/// Plugboard with one observer.
struct Observed {
    server: Server,
    folder: Folder,
    data: Data,
}

/// Where things are.
pub(crate) struct Places<'a> {
    pub(crate) programs: &'a Path,
    pub(crate) guests: &'a Path,
    pub(crate) pinned: bool,
}

impl Places<'_> {
    fn start(&self, name: &'static str, sync: &str) -> anyhow::Result<Observed> {
        let (folder, data) = (Folder::of_observer(self.guests)?, Data::new()?);
        let path = data.path().display().to_string();
        let settings = [("PLUGBOARD_DATA", path), ("PLUGBOARD_JOURNAL_SYNC", sync.to_owned())];
        let program = self.programs.join("plugboard");
        let server = Server::plugboard(name, &program, folder.path(), &settings, self.pinned)?;
        Ok(Observed { server, folder, data })
    }
}

impl Observed {
    /// Has the observer take events, or leave them in the journal.
    fn set_observing(&self, on: bool) -> anyhow::Result<()> {
        self.folder.set_observing(on)?;
        let state = if on { "active" } else { "disabled" };
        let begin = Instant::now();
        while self.server.plugin("/state")? != state {
            ensure!(begin.elapsed() < PATIENCE, "the observer is not {state}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until the observer has had so many events.
    fn wait_for(
        &self,
        events: u64,
        mut meanwhile: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let delivered = self.server.plugin("/events/delivered")?.as_u64();
            if delivered >= Some(events) {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "{delivered:?} of {events} events were told");
            meanwhile()?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Measures, and tells in some lines.
pub(crate) fn measure(places: &Places<'_>, load: &Load, rounds: u32) -> anyhow::Result<String> {
    let bare = Server::bare(&places.programs.join("bare"), places.pinned)?;
    let full = places.start("sync = full", "full")?;
    let normal = places.start("sync = normal", "normal")?;
    let told = places.start("sync = full, told at once", "full")?;
    // Two of them have an observer that wants events and takes none: what is
    // measured there is their acceptance alone.
    full.set_observing(false)?;
    normal.set_observing(false)?;
    let servers = [&bare, &full.server, &normal.server, &told.server];
    let mut posted = 0;
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); servers.len()];
    let mut cpu: Vec<Vec<f64>> = vec![Vec::new(); servers.len()];
    for round in 1..=rounds {
        for ((server, rates), cpu) in servers.iter().zip(&mut rates).zip(&mut cpu) {
            eprintln!("events, round {round} of {rounds}: {}", server.name);
            let before = server.cpu_time()?;
            let seen = load.post(&server.url, Posted::Events, Rate::Many(SENDERS))?;
            let used = server.cpu_time()?.saturating_sub(before);
            rates.push(seen.per_second);
            cpu.push(used.as_secs_f64() * 1e6 / seen.requests as f64);
            if server.name == told.server.name {
                posted += seen.requests;
                told.wait_for(posted, || Ok(()))?;
            }
        }
    }
    let mut text = String::new();
    writeln!(text, "accepted events, {SENDERS} senders: events/s, / bare (range), CPU in \u{b5}s")?;
    let base = rates.first().context("no server")?.clone();
    for ((server, rates), cpu) in servers.iter().zip(&rates).zip(cpu) {
        let ratios: Vec<f64> = rates.iter().zip(&base).map(|(rate, base)| rate / base).collect();
        let least = ratios.iter().copied().fold(f64::MAX, f64::min);
        let most = ratios.iter().copied().fold(f64::MIN, f64::max);
        writeln!(
            text,
            "  {:<30} {:>9.0} {:>20} {:>8.1}",
            server.name,
            median(rates.iter().copied()),
            format!("{:.2} ({least:.2}\u{2013}{most:.2})", median(ratios.iter().copied())),
            median(cpu.into_iter())
        )?;
    }
    drop((full, normal, bare, told));
    writeln!(text, "{}", delay(places, load)?)?;
    write!(text, "{}", backlog(places, load)?)?;
    Ok(text)
}

/// From acceptance to observer, below saturation.
fn delay(places: &Places<'_>, load: &Load) -> anyhow::Result<String> {
    let observed = places.start("delay", "full")?;
    let seen = load.post(&observed.server.url, Posted::Events, Rate::Fixed(FIXED_RATE))?;
    observed.wait_for(seen.requests, || Ok(()))?;
    let delay = observed.server.plugin("/events/delay_us")?;
    Ok(format!(
        "at {FIXED_RATE} events/s: acknowledged after {} \u{b5}s (p50), {} \u{b5}s (p99); from \
         acceptance to observer, in \u{b5}s by the ms: {delay}",
        seen.p50.as_micros(),
        seen.p99.as_micros(),
    ))
}

/// What the process takes while a backlog grows that nobody takes, and while an
/// observer works it off.
fn backlog(places: &Places<'_>, load: &Load) -> anyhow::Result<String> {
    const MIB: f64 = 1024.0 * 1024.0;
    let observed = places.start("backlog", "normal")?;
    let server = &observed.server;
    observed.set_observing(false)?;
    let post = || {
        Ok::<_, anyhow::Error>(
            load.post(&server.url, Posted::Events, Rate::Many(SENDERS))?.requests,
        )
    };
    // With connections and caches as they are under load.
    let mut posted = post()?;
    let before = server.resident()?;
    let begin = Instant::now();
    while posted < BACKLOG {
        ensure!(begin.elapsed() < PATIENCE, "only {posted} events were posted");
        posted += post()?;
    }
    let after = server.resident()?;
    let disk: u64 = std::fs::read_dir(observed.data.path())?
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|file| file.len())
        .sum();
    observed.set_observing(true)?;
    let (begin, mut most) = (Instant::now(), after);
    observed.wait_for(posted, || {
        most = most.max(server.resident()?);
        Ok(())
    })?;
    Ok(format!(
        "backlog of {posted} events: resident {:.0} MiB before, {:.0} MiB with it, {:.0} MiB at the \
         most while it was told ({:.0} events/s); {:.0} MiB on the disk",
        before as f64 / MIB,
        after as f64 / MIB,
        most as f64 / MIB,
        posted as f64 / begin.elapsed().as_secs_f64(),
        disk as f64 / MIB
    ))
}
