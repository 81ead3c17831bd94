//! What is measured in seconds and bytes: from a saved file to its answer, a
//! restart, and what an idle plugin takes.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::folder::{Data, Folder};
use crate::server::Server;
use crate::table::median;

/// How often each is done.
const ROUNDS: u32 = 7;

/// Plugins that are restarted with, each another file.
const PLUGINS: u32 = 100;

/// For a version to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures, and tells in some lines.
pub(crate) fn measure(program: &Path, samples: &Path, pinned: bool) -> anyhow::Result<String> {
    let mut text = String::new();
    let saved = saved_to_served(program, samples, pinned)?;
    writeln!(
        text,
        "saved file to new version answering: {:.0} ms (of which the debounce is 200 ms)",
        millis(&saved)
    )?;
    let folder = Folder::of_one(samples)?.with_others(PLUGINS - 1, true)?;
    let start = |folder: &Folder, data: &Data| {
        let data = data.path().display().to_string();
        let start = Instant::now();
        let settings = [("PLUGBOARD_DATA", data)];
        let server = Server::plugboard("restart", program, folder.path(), &settings, pinned)?;
        anyhow::Ok((server, start.elapsed()))
    };
    let (mut cold, mut warm, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    let none = Folder::empty()?;
    for _ in 0..ROUNDS {
        let data = Data::new()?;
        cold.push(start(&folder, &data)?.1);
        let (server, took) = start(&folder, &data)?;
        warm.push(took);
        let (empty, _) = start(&none, &data)?;
        let more = server.resident()?.saturating_sub(empty.resident()?);
        idle.push(more as f64 / f64::from(PLUGINS) / 1024.0);
    }
    writeln!(
        text,
        "start with {PLUGINS} plugins: {:.0} ms, from the compile cache {:.0} ms",
        millis(&cold),
        millis(&warm)
    )?;
    write!(text, "resident memory per idle plugin: {:.0} KiB", median(idle.into_iter()))?;
    Ok(text)
}

/// A plugin and its settings are written; how long until calls get its answer.
fn saved_to_served(program: &Path, samples: &Path, pinned: bool) -> anyhow::Result<Vec<Duration>> {
    let folder = Folder::of_one(samples)?;
    let data = Data::new()?;
    let settings = [("PLUGBOARD_DATA", data.path().display().to_string())];
    let server = Server::plugboard("reload", program, folder.path(), &settings, pinned)?;
    let mut times = Vec::new();
    for version in 1..=ROUNDS {
        let start = Instant::now();
        let host = folder.change(version)?;
        while !server.ask()?.contains(&host) {
            ensure!(start.elapsed() < PATIENCE, "version {version} does not answer");
            std::thread::sleep(Duration::from_millis(1));
        }
        times.push(start.elapsed());
    }
    Ok(times)
}

fn millis(times: &[Duration]) -> f64 {
    median(times.iter().map(Duration::as_secs_f64)) * 1e3
}
