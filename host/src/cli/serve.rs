//! `plugboard serve`: runs the server until a signal stops it.

use std::os::unix::fs::DirBuilderExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::FutureExt;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config_args::ConfigArgs;
use super::exit_status::EXIT_BAD_CONFIG;
use super::file_limit::raise_file_limit;
use super::load_config::{load_certificate, load_configuration};
use crate::build_info;
use plugboard_config::{Config, LoadedConfig};
use plugboard_events::dispatch::{Dispatcher, Supervisor};
use plugboard_events::journal::{Journal, Subscriptions};
use plugboard_platform as platform;
use plugboard_registry::Registry;
use plugboard_registry::reload::{Reconciler, Reloader};
use plugboard_routing::idempotency::IdempotencyCache;
use plugboard_routing::mid_call::MidCall;
use plugboard_routing::router::Router;
use plugboard_runtime::engine::{Engine, Priority, Purpose};
use plugboard_runtime::plugin::{CompileCache, Loader};
use plugboard_server::live::Live;
use plugboard_server::metrics::{BuildInfo, Metrics};
use plugboard_server::{Server, Services};
use plugboard_store::Store;
use plugboard_store::sqlite::SqliteStore;
use plugboard_telemetry::log as logging;
use plugboard_telemetry::traces::{self, Traces};
use plugboard_tls::Tls;

/// Time for which the start waits until the dispatcher has adopted the observers.
const ADOPTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Run the server.
#[derive(clap::Args)]
pub(super) struct ServeCommand {
    #[command(flatten)]
    config: ConfigArgs,
}

impl ServeCommand {
    pub(super) fn run(self) -> ExitCode {
        let Ok(LoadedConfig { config, warnings }) = load_configuration(self.config.into()) else {
            return ExitCode::from(EXIT_BAD_CONFIG);
        };
        let Ok(tls) = load_certificate(&config) else {
            return ExitCode::from(EXIT_BAD_CONFIG);
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
                eprintln!("plugboard: cannot start the log: {error:#}");
                return ExitCode::FAILURE;
            }
        };
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let result = serve(config, tls, traces.as_ref().map(Traces::counts));
        if let Some(traces) = traces {
            traces.stop();
        }
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

fn serve(
    config: Config,
    tls: Option<Tls>,
    spans: Option<&traces::SpanCounts>,
) -> anyhow::Result<()> {
    if let Err(error) = raise_file_limit() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let (runtime, threads) = start_runtime()?;
    let engine = Engine::start(&config.engine, Purpose::Serve { threads })?;
    let compile_cache = open_compile_cache(&config.data, &engine);
    let _runtime_guard = runtime.enter();
    let store = SqliteStore::start(&config.data, config.journal.clone(), config.kv.max_total)?;
    let store: Arc<dyn Store> = Arc::new(store);
    let loader = Loader::new(engine.clone(), compile_cache, Some(Arc::clone(&store)), &config)?;
    let registry = Arc::new(Registry::default());
    let build = BuildInfo { version: build_info::VERSION, commit: build_info::COMMIT };
    let metrics = Arc::new(Metrics::new(build, spans));
    let folder = config.plugins.clone();
    let reload_metrics = Arc::clone(&metrics);
    let reconciler = Reconciler::new(loader, folder.clone(), Arc::clone(&registry), reload_metrics);
    let (live, live_task) = Live::new(config.calls.max_age);
    let (mut reloader, reload) = Reloader::new(
        reconciler,
        config.reload.clone(),
        Box::new({
            let live = live.clone();
            move |report| live.record_reload(report)
        }),
    );
    runtime.block_on(async {
        // The drain begins with `stop`. The background tasks outlast it, until `end`.
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        let background = TaskTracker::new();
        supervise(
            &background,
            live_task.run(end.clone()),
            "the live feed failed; please report it and restart",
        );
        // Registered before the plugins are loaded, which takes long: no signal is lost.
        background.spawn(end.clone().run_until_cancelled_owned(stop_on_signal(stop.clone())?));
        let hangup = Arc::new(Notify::new());
        let hangups = notify_of_hangups(Arc::clone(&hangup))?;
        background.spawn(end.clone().run_until_cancelled_owned(hangups));
        tokio::select! {
            loaded = reloader.start() => { loaded?; }
            () = stop.cancelled() => return Ok(()),
        }
        let generation = registry.current();
        let (plugins, broken) = (generation.plugins().count(), generation.broken().count());
        let adapters = platform::adapters(&config);
        for unprotected in adapters.iter().filter(|adapter| adapter.is_unauthenticated()) {
            let (platform, path) = (unprotected.name(), unprotected.path());
            tracing::warn!(
                platform,
                path,
                "platform without a secret: any client that reaches the path can post"
            );
        }
        if plugins == 0 {
            tracing::warn!(folder = %folder.display(), "no plugins: every call gets the fallback");
        }
        let subscriptions = Arc::new(Subscriptions::default());
        let (dispatcher, supervisor) =
            create_dispatcher(&config, &engine, &registry, &store, &subscriptions);
        let (delivery, stop_delivery) = (TaskTracker::new(), CancellationToken::new());
        delivery.spawn(supervisor.run(stop_delivery.clone()));
        if !dispatcher.wait_until_adopted(generation.number, ADOPTION_TIMEOUT).await {
            tracing::error!("observers do not receive events: the store is unavailable");
        }
        let journal = Journal::new(Arc::clone(&store), subscriptions, config.calls.clone());
        let journal = Arc::new(journal);
        let dispatcher = Arc::new(dispatcher);
        let services = Services {
            router: Arc::new(Router::new(config.routing.clone(), &config.cache)),
            mid_call: Arc::new(MidCall::new(&engine, &config.cache, &config.idempotency)),
            idempotency: IdempotencyCache::for_decisions(&config.idempotency),
            engine: engine.clone(),
            registry,
            journal,
            store: Arc::clone(&store),
            dispatcher: Arc::clone(&dispatcher),
            live,
            reload,
            tls: tls.map(Arc::new),
        };
        let server = Server::bind(config, adapters, services, metrics)?;
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
        supervise(
            &background,
            reloader.run(hangup, end.clone()),
            "hot reload failed; please report it and restart",
        );
        server.run(stop).await;
        end.cancel();
        // The listeners are closed. Deliveries in progress finish; other events stay in the
        // journal.
        stop_delivery.cancel();
        delivery.close();
        delivery.wait().await;
        store.close().await;
        background.close();
        background.wait().await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Creates the event delivery, which the supervisor runs.
fn create_dispatcher(
    config: &Config,
    engine: &Engine,
    registry: &Arc<Registry>,
    store: &Arc<dyn Store>,
    subscriptions: &Arc<Subscriptions>,
) -> (Dispatcher, Supervisor) {
    Dispatcher::new(
        Arc::clone(registry),
        Arc::clone(store),
        Arc::clone(subscriptions),
        config.events.clone(),
        config.journal.clone(),
        engine.concurrency_limit(Priority::Event),
        config.limits.shutdown_grace_period,
    )
}

/// Creates the data folder and opens the compile cache in it. The folder is private,
/// because its data concerns calls. Without a cache, calls are still decided.
fn open_compile_cache(data: &Path, engine: &Engine) -> Option<CompileCache> {
    let created = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .with_context(|| format!("cannot create the data folder {}", data.display()));
    created
        .and_then(|()| CompileCache::open(data, engine))
        .inspect_err(|error| tracing::error!("cannot cache compiled plugins: {error:#}"))
        .ok()
}

/// Starts one worker thread per core, and returns their number.
fn start_runtime() -> anyhow::Result<(Runtime, usize)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    Ok((runtime.context("cannot start threads")?, threads))
}

/// Spawns a task that calls do not depend on. If it panics, `message` is logged and the
/// server continues without it.
fn supervise(
    tasks: &TaskTracker,
    task: impl Future<Output = ()> + Send + 'static,
    message: &'static str,
) {
    tasks.spawn(async move {
        // The panic drops the task and its state, so no other task sees an invalid state.
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            tracing::error!("{message}");
        }
    });
}

/// Registers for SIGTERM and SIGINT at once. The future cancels `stop` on the first of them.
fn stop_on_signal(
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal, "stopping: draining calls in flight");
        stop.cancel();
    })
}

/// Registers for SIGHUP at once. The future notifies `hangup` of each one, and never ends.
fn notify_of_hangups(
    hangup: Arc<Notify>,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut signals = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    Ok(async move {
        while signals.recv().await.is_some() {
            hangup.notify_one();
        }
    })
}
