//! `plugboard serve`.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use super::{BAD_CONFIG, environment};
use crate::config::{self, Config, Flags, Loaded};
use crate::engine::Engine;
use crate::logging;
use crate::plugin::Loader;
use crate::registry::load_folder;
use crate::server::Server;

/// Take webhooks and answer them.
#[derive(clap::Args)]
pub(super) struct Serve {
    #[command(flatten)]
    flags: Flags,
}

impl Serve {
    pub(super) fn run(self) -> ExitCode {
        let Loaded { config, warnings } = match config::load(self.flags, environment()) {
            Ok(loaded) => loaded,
            Err(error) => {
                eprintln!("plugboard: {error}");
                return ExitCode::from(BAD_CONFIG);
            }
        };
        let _log = match logging::start(&config.log) {
            Ok(log) => log,
            Err(error) => {
                eprintln!("plugboard: cannot log: {error:#}");
                return ExitCode::FAILURE;
            }
        };
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        match serve(config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    raise_file_limit();
    if let Some(data) = &config.data {
        make_data_folder(data)?;
    }
    let (runtime, threads) = runtime()?;
    let engine = Engine::start(&config.engine, threads)?;
    let loader = Loader::new(engine.clone(), config.plugin_limits.clone())?;
    runtime.block_on(async {
        // Before the long work of loading: a signal must not be lost meanwhile.
        let mut stop = std::pin::pin!(stop_signal()?);
        let generation = tokio::select! {
            generation = load_folder(&loader, &config.plugins) => generation?,
            () = &mut stop => return Ok(()),
        };
        let (plugins, broken) = (generation.chain.len(), generation.broken.len());
        let folder = config.plugins.clone();
        if config.secret.is_none() {
            tracing::warn!("no secret is set: whoever reaches the webhook address can post");
        }
        if plugins == 0 {
            tracing::warn!(folder = %folder.display(), "no plugin: every call gets the fallback");
        }
        let server = Server::bind(config, generation)?;
        tracing::info!(
            webhooks = %server.webhook_address()?,
            admin = %server.admin_address()?,
            folder = %folder.display(),
            plugins,
            broken,
            allocation = ?engine.allocation(),
            "serving"
        );
        server.run(stop).await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// A thread per core, and their number.
fn runtime() -> anyhow::Result<(Runtime, usize)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    Ok((runtime.context("cannot start threads")?, threads))
}

/// Resolves on SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal, "stopping: finishing calls in flight");
    })
}

/// Every connection is a file; the usual limit of 1,024 is a leftover.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// What is kept in it concerns calls, so nobody else may look.
fn make_data_folder(folder: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the data folder {}", folder.display()))
}
