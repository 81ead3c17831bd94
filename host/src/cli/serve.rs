//! `plugboard serve`.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::{BAD_CONFIG, environment};
use crate::config::{self, Config, Flags, Loaded};
use crate::engine::Engine;
use crate::logging;
use crate::metrics::Metrics;
use crate::plugin::{CompileCache, Loader};
use crate::registry::Registry;
use crate::reload::{Reconciler, Reloader};
use crate::server::{Parts, Server};

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
    let (runtime, threads) = runtime()?;
    let engine = Engine::start(&config.engine, threads)?;
    let compiled = config.data.as_deref().map(|data| compile_cache(data, &engine)).transpose()?;
    let loader = Loader::new(engine.clone(), compiled, &config)?;
    let registry = Arc::new(Registry::default());
    let metrics = Arc::new(Metrics::default());
    let folder = config.plugins.clone();
    let witness = Arc::clone(&metrics);
    let reconciler = Reconciler::new(loader, folder.clone(), Arc::clone(&registry), witness);
    let (mut reloader, reload) = Reloader::new(reconciler, config.reload.clone());
    runtime.block_on(async {
        // Before the long work of loading: a signal must not be lost meanwhile.
        let mut stop = std::pin::pin!(stop_signal()?);
        let hangup = hangup_signal()?;
        tokio::select! {
            first = reloader.start() => { first?; }
            () = &mut stop => return Ok(()),
        }
        let generation = registry.current();
        let (plugins, broken) = (generation.chain().len(), generation.broken().count());
        if config.secret.is_none() {
            tracing::warn!("no secret is set: whoever reaches the webhook address can post");
        }
        if plugins == 0 {
            tracing::warn!(folder = %folder.display(), "no plugin: every call gets the fallback");
        }
        let server =
            Server::bind(config, Parts { engine: engine.clone(), registry, metrics, reload })?;
        tracing::info!(
            webhooks = %server.webhook_address()?,
            admin = %server.admin_address()?,
            folder = %folder.display(),
            plugins,
            broken,
            allocation = ?engine.allocation(),
            "serving"
        );
        drop(generation);
        let reloading = tokio::spawn(async move {
            if tokio::spawn(reloader.run(hangup)).await.is_err_and(|error| error.is_panic()) {
                // Calls are answered all the same.
                tracing::error!("plugins are not reloaded any more; please report it, and restart");
            }
        });
        server.run(stop).await;
        reloading.abort();
        tracing::info!("stopped");
        Ok(())
    })
}

/// The data folder and, in it, the compile cache. What is kept there concerns
/// calls, so nobody else may look.
fn compile_cache(data: &Path, engine: &Engine) -> anyhow::Result<CompileCache> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("cannot make the data folder {}", data.display()))?;
    CompileCache::open(data, engine)
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

/// Is told of every SIGHUP.
fn hangup_signal() -> anyhow::Result<Arc<Notify>> {
    let mut hangups = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let hangup = Arc::new(Notify::new());
    let told = Arc::clone(&hangup);
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            told.notify_one();
        }
    });
    Ok(hangup)
}

/// Every connection is a file; the usual limit of 1,024 is a leftover.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
