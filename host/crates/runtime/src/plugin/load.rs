//! Loading: from a plugin's files to a [`Plugin`] that has passed a trial instance, or to a
//! [`LoadError`]. No call waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use wasmtime::component::{Component, Linker};

use super::breaker::CircuitBreaker;
use super::compile_cache::CompileCache;
use super::component::{LinkedComponent, compile};
use super::context::PluginContext;
use super::contract::Hook;
use super::error::LoadError;
use super::guest_state::{GuestState, build_linker};
use super::limits::ResourceLimits;
use super::overrun::OverrunTracker;
use super::plugin_files::{ContentDigest, PluginContents, PluginFiles, PluginVersion};
use super::recorder::Recorder;
use super::settings::Settings;
use super::stats::Stats;
use super::{Plugin, next_id};
use crate::capability::kv::Kv;
use crate::capability::log::MAX_MESSAGE;
use crate::capability::metrics::MetricsCapability;
use crate::engine::{Engine, Priority};
use plugboard_config::{CircuitBreakerConfig, Config, KvConfig, PluginLimits};
use plugboard_core::sts_url::AllowedHosts;
use plugboard_core::text::sanitize;
use plugboard_egress::{HttpClient, HttpGrants, HttpLimits, HttpMock};
use plugboard_store::Store;

/// Time limit of the trial instance, which shares the pool and the CPU with calls.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of tools of one plugin. Voice agents choose badly among more tools.
const MAX_TOOLS: usize = 64;

/// Longest name of a tool, in bytes.
const MAX_TOOL_NAME: usize = 128;

/// Nice value of threads that load plugins, so that threads that serve calls have priority.
const NICENESS: i32 = 5;

/// Loads plugins from files.
pub struct Loader {
    pub(super) engine: Engine,
    pub(super) linker: Linker<GuestState>,
    compile_cache: Option<Arc<CompileCache>>,
    pub(super) defaults: PluginLimits,
    circuit_breaker: CircuitBreakerConfig,
    /// `None` if plugins are only examined.
    store: Option<Arc<dyn Store>>,
    kv: KvConfig,
    http: HttpLimits,
    /// Answers requests instead of the network.
    script: Option<Arc<HttpMock>>,
    /// Always `None` in the server.
    pub(super) recorder: Option<Arc<Recorder>>,
    /// Value of `limits.decision_timeout` in the configuration.
    decision_timeout: Duration,
    allowed_sts_hosts: Arc<AllowedHosts>,
    /// Components in use, by digest. The same file under another name or with other settings
    /// is not compiled again.
    components: Mutex<HashMap<ContentDigest, Weak<LinkedComponent>>>,
}

/// Result of loading a plugin.
pub enum LoadOutcome {
    /// The plugin can be called.
    Plugin(Arc<Plugin>),
    /// The settings disable the plugin.
    Disabled,
}

impl Loader {
    /// Creates a loader for one engine, with the store of the plugins' values.
    ///
    /// # Errors
    ///
    /// Fails if the host functions cannot be linked.
    pub fn new(
        engine: Engine,
        cache: Option<CompileCache>,
        store: Option<Arc<dyn Store>>,
        config: &Config,
    ) -> anyhow::Result<Self> {
        let linker = build_linker(engine.wasm())?;
        Ok(Self {
            engine,
            linker,
            compile_cache: cache.map(Arc::new),
            defaults: config.plugin_limits.clone(),
            circuit_breaker: config.circuit_breaker.clone(),
            store,
            kv: config.kv.clone(),
            http: HttpLimits {
                timeout: config.http.timeout,
                max_request_size: config.http.max_request,
                max_response_size: config.http.max_response,
                concurrency: config.http.concurrency,
            },
            script: None,
            recorder: None,
            decision_timeout: config.limits.decision_timeout,
            allowed_sts_hosts: Arc::new(config.routing.allowed_sts_hosts.clone()),
            components: Mutex::default(),
        })
    }

    /// Answers the plugins' HTTP requests from a mock, within their grants and limits.
    #[must_use]
    pub fn with_script(self, script: Arc<HttpMock>) -> Self {
        Self { script: Some(script), ..self }
    }

    /// Records the steps of the plugins, one call at a time.
    #[must_use]
    pub fn with_recorder(self, recorder: Arc<Recorder>) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    /// Loads one version of a plugin: reads its settings, compiles and links it, and creates a
    /// trial instance. It continues the counters of the version that it `replaces`. Compiling
    /// runs on its own thread.
    ///
    /// # Errors
    ///
    /// Fails if the plugin cannot be called; the error names the step and the remedy.
    pub async fn load(
        &self,
        plugin_files: &PluginFiles,
        mut contents: PluginContents,
        replaces: Option<&Plugin>,
    ) -> Result<LoadOutcome, LoadError> {
        let settings = self.load_settings(plugin_files, contents.settings.take()).await?;
        if !settings.enabled {
            return Ok(LoadOutcome::Disabled);
        }
        let stats = replaces.map(|plugin| Arc::clone(&plugin.stats)).unwrap_or_default();
        Ok(LoadOutcome::Plugin(self.build(plugin_files, contents, settings, stats).await?))
    }

    /// Loads a plugin as [`Self::load`] does, even if its settings disable it.
    ///
    /// # Errors
    ///
    /// Fails if the plugin could not be called when enabled.
    pub async fn load_ignoring_enabled(
        &self,
        plugin_files: &PluginFiles,
        mut contents: PluginContents,
    ) -> Result<Arc<Plugin>, LoadError> {
        let settings = self.load_settings(plugin_files, contents.settings.take()).await?;
        self.build(plugin_files, contents, settings, Arc::default()).await
    }

    /// Parses a plugin's settings and checks them against the server's limits.
    async fn load_settings(
        &self,
        plugin_files: &PluginFiles,
        text: Option<Vec<u8>>,
    ) -> Result<Settings, LoadError> {
        plugin_files.name()?;
        let settings = parse_settings(plugin_files, text).await?;
        self.check_memory(&settings)?;
        Ok(settings)
    }

    /// Builds a plugin, whether it is enabled or not.
    async fn build(
        &self,
        plugin_files: &PluginFiles,
        contents: PluginContents,
        settings: Settings,
        stats: Arc<Stats>,
    ) -> Result<Arc<Plugin>, LoadError> {
        let PluginContents { bytes, version, .. } = contents;
        let component = self.link_component(version.file, bytes).await?;
        self.assemble(plugin_files.name()?, settings, version, component, stats).await
    }

    /// Builds a plugin from its parts, after a trial instance.
    pub(super) async fn assemble(
        &self,
        name: &str,
        settings: Settings,
        version: PluginVersion,
        component: Arc<LinkedComponent>,
        stats: Arc<Stats>,
    ) -> Result<Arc<Plugin>, LoadError> {
        let name = Arc::<str>::from(name);
        let limits = ResourceLimits::new(&settings.limits, &self.defaults);
        let grants = &settings.grants;
        let kv = Kv::new(Arc::clone(&name), grants.kv, self.kv.clone(), self.store.clone());
        let metrics = MetricsCapability(grants.metrics.then(|| Arc::clone(&stats.guest_metrics)));
        let http = self.http_client(&name, &grants.http).await?;
        let context = Arc::new(PluginContext {
            name,
            kv,
            http,
            metrics,
            recorder: self.recorder.clone(),
            stats: Arc::clone(&stats),
            settings,
            limits,
            allowed_sts_hosts: Arc::clone(&self.allowed_sts_hosts),
            last_url: ArcSwapOption::empty(),
            overrun_trackers: Priority::ALL.map(|_| OverrunTracker::new()),
        });
        let exported_tools =
            super::hooks::run_trial_instance(&context, &self.engine, &component, TRIAL_TIMEOUT)
                .await
                .map_err(LoadError::Instantiate)?;
        let tools = tool_names(&component, &context.settings, exported_tools)?;
        Ok(Arc::new(Plugin {
            id: next_id(),
            stats,
            mid_call_permits: Semaphore::new(
                (self.engine.concurrency_limit(Priority::MidCall) / 2).max(1),
            ),
            breakers: Hook::ALL.map(|_| CircuitBreaker::new(self.circuit_breaker.clone())),
            tools,
            version,
            component,
            context,
            engine: self.engine.clone(),
            decision_timeout: self.decision_timeout,
            last_failure: Mutex::default(),
        }))
    }

    /// Creates the client for a plugin's requests. `None`: the settings grant no host.
    async fn http_client(
        &self,
        plugin: &str,
        grants: &HttpGrants,
    ) -> Result<Option<HttpClient>, LoadError> {
        if grants.is_empty() {
            return Ok(None);
        }
        let (grants, limits) = (grants.clone(), self.http.clone());
        if let Some(script) = &self.script {
            return Ok(Some(HttpClient::with_mock(grants, limits, Arc::clone(script))));
        }
        // `HttpClient::new` reads the machine's root certificates.
        let create_client = move || {
            HttpClient::new(grants, limits).map_err(|error| LoadError::GrantSetup(Box::new(error)))
        };
        let client = run_on_low_priority_thread("certificates", create_client).await?;
        if let Some(advice) = client.missing_roots_advice() {
            tracing::warn!(plugin, reason = advice, "HTTPS requests of the plugin cannot work");
        }
        Ok(Some(client))
    }

    /// Checks that the memory limit of the settings is within the server's limit.
    pub(super) fn check_memory(&self, settings: &Settings) -> Result<(), LoadError> {
        let asked = ResourceLimits::new(&settings.limits, &self.defaults).memory;
        let most = self.engine.max_memory();
        if asked > most {
            return Err(LoadError::MemoryTooLarge { asked, most });
        }
        Ok(())
    }

    /// Returns the compiled and linked component of these bytes: a component in use, else from
    /// the compile cache, else a new one.
    async fn link_component(
        &self,
        digest: ContentDigest,
        bytes: Vec<u8>,
    ) -> Result<Arc<LinkedComponent>, LoadError> {
        if let Some(component) = self.components.lock().get(&digest).and_then(Weak::upgrade) {
            return Ok(component);
        }
        let size = bytes.len() as u64;
        let component = self.compile(digest, bytes).await?;
        let linked = Arc::new(LinkedComponent::link(&self.linker, &component, size)?);
        let mut components = self.components.lock();
        components.retain(|_, component| component.strong_count() > 0);
        components.insert(digest, Arc::downgrade(&linked));
        Ok(linked)
    }

    /// Compiles these bytes on a low-priority thread.
    pub(super) async fn compile(
        &self,
        digest: ContentDigest,
        bytes: Vec<u8>,
    ) -> Result<Component, LoadError> {
        let (engine, cache) = (self.engine.clone(), self.compile_cache.clone());
        run_on_low_priority_thread("compiler", move || {
            compile(&engine, cache.as_deref(), digest, &bytes)
        })
        .await
    }
}

/// Parses the settings of a plugin; without a file, the defaults.
pub(super) async fn parse_settings(
    plugin_files: &PluginFiles,
    text: Option<Vec<u8>>,
) -> Result<Settings, LoadError> {
    let Some(text) = text else { return Ok(Settings::default()) };
    let path = plugin_files.settings.clone();
    // Compiling many patterns takes long.
    run_on_low_priority_thread("settings", move || match str::from_utf8(&text) {
        Ok(text) => Ok(Settings::parse(text, &path)?),
        Err(source) => Err(LoadError::SettingsNotUtf8 { path, source }),
    })
    .await
}

/// Returns the names of a plugin's tools: from its settings, else from its exports.
fn tool_names(
    component: &LinkedComponent,
    settings: &Settings,
    exported: Vec<String>,
) -> Result<Box<[Box<str>]>, LoadError> {
    let invalid = |reason: String| Err(LoadError::InvalidToolNames(reason));
    let names = match &settings.tools.names {
        Some(_) if component.tools.is_none() => {
            return invalid("tools.names is set, but the component exports no tools".into());
        }
        Some(names) => names.clone(),
        None => exported,
    };
    if names.len() > MAX_TOOLS {
        return invalid(format!("{} names; expected at most {MAX_TOOLS}", names.len()));
    }
    let mut unique: Vec<Box<str>> = Vec::with_capacity(names.len());
    for name in names {
        if !(1..=MAX_TOOL_NAME).contains(&name.len()) {
            return invalid(format!(
                "a name has {} bytes; expected 1 to {MAX_TOOL_NAME}",
                name.len()
            ));
        }
        if unique.iter().any(|other| **other == name) {
            return invalid(format!("{:?} occurs twice", sanitize(&name, MAX_MESSAGE)));
        }
        unique.push(name.into());
    }
    Ok(unique.into())
}

/// Runs a long computation on a separate thread with a lower priority than the threads that
/// serve calls. A panic of the compiler fails only the plugin that it compiles.
async fn run_on_low_priority_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let thread = rustix::thread::gettid();
        if let Err(error) = rustix::process::setpriority_process(Some(thread), NICENESS) {
            tracing::debug!(%error, "cannot set a thread's priority");
        }
        _ = done.send(work());
    });
    match thread {
        Ok(_) => result.await.unwrap_or(Err(LoadError::HostPanicked)),
        Err(source) => Err(LoadError::NoThread(source)),
    }
}
