//! `plugboard serve`.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::{BAD_CONFIG, certificate, configuration, raise_file_limit};
use crate::config::{Config, Flags, Loaded};
use crate::dispatch::{self, Dispatcher};
use crate::engine::{Engine, Purpose, Queue};
use crate::journal::{Interest, Journal};
use crate::live::Live;
use crate::logging;
use crate::metrics::Metrics;
use crate::platform;
use crate::plugin::{CompileCache, Loader};
use crate::registry::Registry;
use crate::reload::{Reconciler, Reloader};
use crate::server::{Parts, Server, Tls};
use crate::store::Store;
use crate::store::sqlite::Sqlite;
use crate::traces::{self, Traces};

/// How long to wait at start until observers are told of what comes.
const ADOPTION: Duration = Duration::from_secs(5);

/// Take webhooks and answer them.
#[derive(clap::Args)]
pub(super) struct Serve {
    #[command(flatten)]
    flags: Flags,
}

impl Serve {
    pub(super) fn run(self) -> ExitCode {
        let Some(Loaded { config, warnings }) = configuration(self.flags) else {
            return ExitCode::from(BAD_CONFIG);
        };
        let Some(tls) = certificate(&config) else {
            return ExitCode::from(BAD_CONFIG);
        };
        let traces = match config.traces.as_ref().map(Traces::start).transpose() {
            Ok(traces) => traces,
            Err(error) => {
                eprintln!("plugboard: {error:#}");
                return ExitCode::FAILURE;
            }
        };
        let _log = match logging::start(&config.log, traces.as_ref()) {
            Ok(log) => log,
            Err(error) => {
                eprintln!("plugboard: cannot log: {error:#}");
                return ExitCode::FAILURE;
            }
        };
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let served = serve(config, tls, traces.as_ref().map(Traces::counts));
        if let Some(traces) = traces {
            traces.stop();
        }
        match served {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

fn serve(config: Config, tls: Option<Tls>, spans: Option<&traces::Counts>) -> anyhow::Result<()> {
    if let Err(error) = raise_file_limit() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let (runtime, threads) = runtime()?;
    let engine = Engine::start(&config.engine, Purpose::Serve { threads })?;
    let compiled = compile_cache(&config.data, &engine);
    let _within = runtime.enter();
    let store = Sqlite::start(&config.data, config.journal.clone(), config.kv.max_total)?;
    let store: Arc<dyn Store> = Arc::new(store);
    let loader = Loader::new(engine.clone(), compiled, Some(Arc::clone(&store)), &config)?;
    let registry = Arc::new(Registry::default());
    let metrics = Arc::new(Metrics::new(spans));
    let folder = config.plugins.clone();
    let witness = Arc::clone(&metrics);
    let reconciler = Reconciler::new(loader, folder.clone(), Arc::clone(&registry), witness);
    let live = Live::start(config.calls.max_age);
    let (mut reloader, reload) = Reloader::new(reconciler, config.reload.clone(), live.clone());
    runtime.block_on(async {
        // Before the long work of loading: a signal must not be lost meanwhile.
        let mut stop = std::pin::pin!(stop_signal()?);
        let hangup = hangup_signal()?;
        tokio::select! {
            first = reloader.start() => { first?; }
            () = &mut stop => return Ok(()),
        }
        let generation = registry.current();
        let (plugins, broken) = (generation.plugins().count(), generation.broken().count());
        for open in platform::dialects(&config).iter().filter(|dialect| dialect.is_open()) {
            let (platform, path) = (open.name(), open.path());
            tracing::warn!(platform, path, "no secret is set: whoever reaches the path can post");
        }
        if plugins == 0 {
            tracing::warn!(folder = %folder.display(), "no plugin: every call gets the fallback");
        }
        let interest = Arc::new(Interest::default());
        let dispatcher = dispatcher(&config, &engine, &registry, &store, &interest);
        if !dispatcher.adopted(generation.number, ADOPTION).await {
            tracing::error!("observers are not told of events until the store can be used");
        }
        let journal = Journal::new(Arc::clone(&store), interest, config.calls.clone());
        let journal = Arc::new(journal);
        let dispatcher = Arc::new(dispatcher);
        let parts = Parts {
            engine: engine.clone(),
            registry,
            journal,
            store: Arc::clone(&store),
            dispatcher: Arc::clone(&dispatcher),
            metrics,
            live,
            reload,
            tls,
        };
        let server = Server::bind(config, parts)?;
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
        // Nothing comes in any more: what is under way is finished, the rest stays
        // in the journal.
        dispatcher.stop().await;
        store.close().await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Those who tell observers.
fn dispatcher(
    config: &Config,
    engine: &Engine,
    registry: &Arc<Registry>,
    store: &Arc<dyn Store>,
    interest: &Arc<Interest>,
) -> Dispatcher {
    let parts = dispatch::Parts {
        registry: Arc::clone(registry),
        store: Arc::clone(store),
        interest: Arc::clone(interest),
    };
    let (events, journal) = (config.events.clone(), config.journal.clone());
    let places = engine.places(Queue::Events);
    Dispatcher::start(parts, events, journal, places, config.limits.shutdown)
}

/// The data folder and, in it, the compile cache. What is kept there concerns
/// calls, so nobody else may look. Without it, calls are decided all the same.
fn compile_cache(data: &Path, engine: &Engine) -> Option<CompileCache> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("cannot make the data folder {}", data.display()));
    made.and_then(|()| CompileCache::open(data, engine))
        .inspect_err(|error| tracing::error!("compiled plugins are not kept: {error:#}"))
        .ok()
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
