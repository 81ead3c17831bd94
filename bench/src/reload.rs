//! Reload, start and memory: from a saved file to the first response of the new version,
//! a start with many plugins, and the memory of an idle plugin.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::Bench;
use crate::folder::{Data, PluginFolder};
use crate::stats::median;

/// Maximum wait for the response of a new version.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Measures reload, start and memory, and returns some lines.
pub(crate) fn measure(bench: &Bench) -> anyhow::Result<String> {
    let mut text = String::new();
    eprintln!("reload: new versions");
    let saved = save_to_response(bench)?;
    writeln!(
        text,
        "from a saved file to the first response of the new version: {:.0} ms (200 ms of it are \
         the debounce)",
        millis(&saved)
    )?;
    let plugins = bench.sizes.start_plugins;
    let folder = PluginFolder::number_plan(&bench.samples)?.with_others(plugins - 1, true)?;
    let start = |folder: &PluginFolder, data: &Data| {
        let begin = Instant::now();
        let server = bench.plugboard("start", folder.path(), &[data.env()])?;
        anyhow::Ok((server, begin.elapsed()))
    };
    let (mut cold, mut warm, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    let empty = PluginFolder::empty()?;
    for round in 1..=bench.sizes.reloads {
        eprintln!("reload: start with {plugins} plugins, {round} of {}", bench.sizes.reloads);
        let data = Data::new()?;
        cold.push(start(&folder, &data)?.1);
        let (server, time) = start(&folder, &data)?;
        warm.push(time);
        let (without_plugins, _) = start(&empty, &data)?;
        let memory = server.resident()?.saturating_sub(without_plugins.resident()?);
        idle.push(memory as f64 / f64::from(plugins) / 1024.0);
    }
    writeln!(
        text,
        "start with {plugins} plugins: {:.0} ms, with a warm compile cache {:.0} ms",
        millis(&cold),
        millis(&warm)
    )?;
    write!(text, "resident memory per idle plugin: {:.0} KiB", median(idle))?;
    Ok(text)
}

/// Deploys versions of a plugin and its settings. Measures the time until the response
/// is that of the new version.
fn save_to_response(bench: &Bench) -> anyhow::Result<Vec<Duration>> {
    let (folder, data) = (PluginFolder::number_plan(&bench.samples)?, Data::new()?);
    let server = bench.plugboard("reload", folder.path(), &[data.env()])?;
    let mut times = Vec::new();
    for version in 1..=bench.sizes.reloads {
        let begin = Instant::now();
        let host = folder.deploy_version(version)?;
        while !server.decide()?.contains(&host) {
            ensure!(begin.elapsed() < TIMEOUT, "version {version} does not answer");
            std::thread::sleep(Duration::from_millis(1));
        }
        times.push(begin.elapsed());
    }
    Ok(times)
}

fn millis(times: &[Duration]) -> f64 {
    median(times.iter().map(Duration::as_secs_f64)) * 1e3
}
