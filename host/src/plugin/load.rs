//! From files to a plugin that can be called, or to a reason that its author
//! can act on. Nothing here is on the way of a call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Semaphore, oneshot};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use super::bindings::exports::plugboard::plugin::{observer, router, tools, transfers};
use super::breaker::Breaker;
use super::compiled::CompileCache;
use super::error::PluginError;
use super::habits::Habits;
use super::limits::Limits;
use super::pace::Pace;
use super::settings::Settings;
use super::sources::{Digest, Files, Sources};
use super::state::{State, linker};
use super::stats::Stats;
use super::{CONTRACT, Hook, Plugin, Shared, next_id};
use crate::capability::http::{HttpClient, HttpLimits};
use crate::capability::kv::Kv;
use crate::capability::log::{MAX_MESSAGE, quote};
use crate::capability::metrics::Metrics;
use crate::config::{BreakerConfig, Config, KvConfig, PluginLimits};
use crate::engine::{Engine, Queue};
use crate::store::Store;
use crate::sts_url::AllowedHosts;

/// For the trial instance, which shares pool and processor with calls.
const TRIAL: Duration = Duration::from_secs(5);

/// Tools of one plugin; a voice agent that has more to choose from chooses badly.
const MAX_TOOLS: usize = 64;

/// Longest name of a tool, in bytes.
const MAX_TOOL_NAME: usize = 128;

/// The package name of every version of our contract.
const PACKAGE: &str = "plugboard:plugin/";

/// How much less a thread that loads gets of a processor than those that serve
/// calls, when there is not enough for both (`nice`).
const NICENESS: i32 = 5;

/// Makes plugins of files.
pub struct Loader {
    engine: Engine,
    linker: Linker<State>,
    cache: Option<Arc<CompileCache>>,
    defaults: PluginLimits,
    breaker: BreakerConfig,
    /// None where plugins are only judged.
    store: Option<Arc<dyn Store>>,
    kv: KvConfig,
    http: HttpLimits,
    /// Of a call.
    budget: Duration,
    allowed_sts_hosts: Arc<AllowedHosts>,
    /// What is in use, by digest: the same file under another name or with other
    /// settings is not compiled again.
    components: Mutex<HashMap<Digest, Weak<Checked>>>,
}

/// A component that was compiled and found to fit the contract. Made once,
/// however many plugins are made of it.
pub(super) struct Checked {
    /// Of the file, in bytes.
    pub(super) size: u64,
    pub(super) hooks: Vec<Hook>,
    pub(super) pre: InstancePre<State>,
    pub(super) router: Option<router::GuestIndices>,
    pub(super) observer: Option<observer::GuestIndices>,
    pub(super) tools: Option<tools::GuestIndices>,
    pub(super) transfers: Option<transfers::GuestIndices>,
}

/// What came of loading.
pub enum Loaded {
    /// It can be called.
    Plugin(Arc<Plugin>),
    /// The operator switched it off.
    Disabled,
}

impl Loader {
    /// A loader for one engine, with a compile cache or without, and with a store
    /// for what plugins keep.
    ///
    /// # Errors
    ///
    /// When the engine refuses our own host functions.
    pub fn new(
        engine: Engine,
        cache: Option<CompileCache>,
        store: Option<Arc<dyn Store>>,
        config: &Config,
    ) -> anyhow::Result<Self> {
        let linker = linker(engine.wasm())?;
        Ok(Self {
            engine,
            linker,
            cache: cache.map(Arc::new),
            defaults: config.plugin_limits.clone(),
            breaker: config.breaker.clone(),
            store,
            kv: config.kv.clone(),
            http: HttpLimits {
                timeout: config.http.timeout,
                request: config.http.max_request,
                response: config.http.max_response,
                concurrency: config.http.concurrency,
            },
            budget: config.limits.budget,
            allowed_sts_hosts: Arc::new(config.answers.allowed_sts_hosts.clone()),
            components: Mutex::default(),
        })
    }

    /// Loads one version of a plugin: reads its settings, compiles and links it,
    /// and makes a first instance. `stats` is what goes on counting. Compiling is
    /// done off the runtime's threads.
    ///
    /// # Errors
    ///
    /// When it cannot be called; names the step and what to do.
    pub async fn load(
        &self,
        sources: &Sources,
        files: Files,
        stats: Arc<Stats>,
    ) -> Result<Loaded, PluginError> {
        let name = Arc::<str>::from(sources.name()?);
        let settings = self.settings(sources, files.settings).await?;
        if !settings.enabled {
            return Ok(Loaded::Disabled);
        }
        let version = files.version;
        let component = self.component(version.file, files.bytes).await?;
        let limits = Limits::new(&settings.limits, &self.defaults);
        let grants = &settings.grants;
        let kv = Kv::new(Arc::clone(&name), grants.kv, self.kv.clone(), self.store.clone());
        let figures = Metrics(grants.metrics.then(|| Arc::clone(&stats.figures)));
        let http = match &grants.http {
            none if none.is_empty() => None,
            some => {
                let (grants, limits) = (some.clone(), self.http.clone());
                // Reads the machine's certificates.
                let make = move || {
                    HttpClient::new(grants, limits)
                        .map_err(|error| PluginError::Grants(error.to_string()))
                };
                let client = apart("certificates", make).await?;
                if let Some(advice) = client.advice() {
                    tracing::warn!(plugin = &*name, "its https requests cannot work: {advice}");
                }
                Some(client)
            }
        };
        let shared = Arc::new(Shared {
            name,
            kv,
            http,
            figures,
            stats: Arc::clone(&stats),
            settings,
            limits,
            allowed_sts_hosts: Arc::clone(&self.allowed_sts_hosts),
            last_url: ArcSwapOption::empty(),
            paces: Queue::ALL.map(|_| Pace::new()),
        });
        let own = super::hooks::try_instance(&shared, &self.engine, &component, TRIAL)
            .await
            .map_err(|error| PluginError::Instantiate(Box::new(error)))?;
        let tools = tool_names(&component, &shared.settings, own)?;
        Ok(Loaded::Plugin(Arc::new(Plugin {
            id: next_id(),
            stats,
            midcall: Semaphore::new((self.engine.places(Queue::Agents) / 2).max(1)),
            breakers: Hook::ALL.map(|_| Breaker::new(self.breaker.clone())),
            tools,
            habits: Habits::default(),
            version,
            component,
            shared,
            engine: self.engine.clone(),
            budget: self.budget,
            last_error: Mutex::default(),
        })))
    }

    /// The settings of a plugin; the defaults when there is no file.
    async fn settings(
        &self,
        sources: &Sources,
        text: Option<Vec<u8>>,
    ) -> Result<Settings, PluginError> {
        let Some(text) = text else { return Ok(Settings::default()) };
        let path = sources.settings.clone();
        // Many patterns take their time.
        let settings = apart("settings", move || match str::from_utf8(&text) {
            Ok(text) => Ok(Settings::parse(text, &path)?),
            Err(_) => Err(PluginError::SettingsNotText(path)),
        })
        .await?;
        let asked = Limits::new(&settings.limits, &self.defaults).memory;
        let most = self.engine.max_memory();
        if asked > most {
            return Err(PluginError::MemoryTooLarge { asked, most });
        }
        Ok(settings)
    }

    /// The component of these bytes, compiled and linked: one that is in use, one
    /// of the compile cache, or a new one.
    async fn component(&self, digest: Digest, bytes: Vec<u8>) -> Result<Arc<Checked>, PluginError> {
        if let Some(component) = self.components().get(&digest).and_then(Weak::upgrade) {
            return Ok(component);
        }
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let size = bytes.len() as u64;
        let component =
            apart("compiler", move || compile(&engine, cache.as_deref(), digest, &bytes)).await?;
        self.check_imports(&component)?;
        let hooks = self.hooks(&component)?;
        let mismatch = |error: wasmtime::Error| PluginError::Mismatch {
            spoken: CONTRACT,
            detail: quote(&format!("{error:#}"), MAX_MESSAGE),
        };
        let pre = self.linker.instantiate_pre(&component).map_err(mismatch)?;
        let has = |hook| hooks.contains(&hook);
        let router = has(Hook::Router).then(|| router::GuestIndices::new(&pre)).transpose();
        let observer = has(Hook::Observer).then(|| observer::GuestIndices::new(&pre)).transpose();
        let tools = has(Hook::Tools).then(|| tools::GuestIndices::new(&pre)).transpose();
        let transfers =
            has(Hook::Transfers).then(|| transfers::GuestIndices::new(&pre)).transpose();
        let (router, observer) = (router.map_err(mismatch)?, observer.map_err(mismatch)?);
        let (tools, transfers) = (tools.map_err(mismatch)?, transfers.map_err(mismatch)?);
        let checked = Checked { size, hooks, pre, router, observer, tools, transfers };
        let checked = Arc::new(checked);
        let mut components = self.components();
        components.retain(|_, component| component.strong_count() > 0);
        components.insert(digest, Arc::downgrade(&checked));
        Ok(checked)
    }

    fn components(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Weak<Checked>>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hooks that a component exports.
    fn hooks(&self, component: &Component) -> Result<Vec<Hook>, PluginError> {
        let ty = component.component_type();
        let exports: Vec<&str> = ty.exports(self.engine.wasm()).map(|(name, _)| name).collect();
        exports.iter().try_for_each(|name| speaks_our_version(name))?;
        let hooks: Vec<Hook> = Hook::ALL
            .into_iter()
            .filter(|hook| exports.contains(&interface(hook.interface()).as_str()))
            .collect();
        if hooks.is_empty() {
            let expected = Hook::ALL.map(|hook| interface(hook.interface())).join(", ");
            let found = if exports.is_empty() { "nothing".into() } else { exports.join(", ") };
            let found = quote(&found, MAX_MESSAGE);
            return Err(PluginError::NoHook { expected, found });
        }
        Ok(hooks)
    }

    /// Whether we have everything that a component wants, by name. Whether
    /// functions and types fit is for the linker to say.
    fn check_imports(&self, component: &Component) -> Result<(), PluginError> {
        let known = ["types", "log", "config", "kv", "http", "metrics"].map(interface);
        for (name, import) in component.component_type().imports(self.engine.wasm()) {
            speaks_our_version(name)?;
            let wasi = name.starts_with("wasi:")
                && match &import.ty {
                    ComponentItem::ComponentInstance(_) => self.has_wasi(name),
                    _ => false,
                };
            if !wasi && !known.iter().any(|known| known == name) {
                return Err(PluginError::UnknownImport {
                    import: quote(name, MAX_MESSAGE),
                    known: known.join(", "),
                });
            }
        }
        Ok(())
    }

    /// Whether a WASI interface is one of those that are linked.
    fn has_wasi(&self, name: &str) -> bool {
        const PACKAGES: [&str; 6] = [
            "wasi:cli/",
            "wasi:clocks/",
            "wasi:filesystem/",
            "wasi:io/",
            "wasi:random/",
            "wasi:sockets/",
        ];
        PACKAGES.iter().any(|package| name.starts_with(package))
            && name.rsplit_once('@').is_some_and(|(_, version)| version.starts_with("0.2."))
    }
}

/// The names of a plugin's tools: those of its settings, else its own.
fn tool_names(
    component: &Checked,
    settings: &Settings,
    own: Vec<String>,
) -> Result<Box<[Box<str>]>, PluginError> {
    let refuse = |why: String| Err(PluginError::ToolNames(why));
    let names = match &settings.tools.names {
        Some(_) if component.tools.is_none() => {
            return refuse("its settings name some (tools.names), and it exports no tools".into());
        }
        Some(names) => names.clone(),
        None => own,
    };
    if names.len() > MAX_TOOLS {
        return refuse(format!("there are {}; there may be {MAX_TOOLS}", names.len()));
    }
    let mut known: Vec<Box<str>> = Vec::with_capacity(names.len());
    for name in names {
        if !(1..=MAX_TOOL_NAME).contains(&name.len()) {
            return refuse(format!("one has {} bytes, not 1 to {MAX_TOOL_NAME}", name.len()));
        }
        if known.iter().any(|other| **other == name) {
            return refuse(format!("{:?} is there twice", quote(&name, MAX_MESSAGE)));
        }
        known.push(name.into());
    }
    Ok(known.into())
}

/// The full name of one of our interfaces.
fn interface(name: &str) -> String {
    let (package, version) = CONTRACT.split_once('@').unwrap_or((CONTRACT, ""));
    format!("{package}/{name}@{version}")
}

/// Refuses a name of our contract with another version.
fn speaks_our_version(name: &str) -> Result<(), PluginError> {
    let (_, ours) = CONTRACT.split_once('@').unwrap_or_default();
    match name.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@')) {
        Some((_, version)) if version != ours => {
            Err(PluginError::ContractVersion { found: quote(name, MAX_MESSAGE), spoken: CONTRACT })
        }
        _ => Ok(()),
    }
}

/// Machine code for a component, from the cache if it has it.
fn compile(
    engine: &Engine,
    cache: Option<&CompileCache>,
    digest: Digest,
    bytes: &[u8],
) -> Result<Component, PluginError> {
    sniff(bytes)?;
    if let Some(component) = cache.and_then(|cache| cache.get(engine, digest)) {
        return Ok(component);
    }
    let component =
        Component::from_binary(engine.wasm(), bytes).map_err(|error| refusal(&error))?;
    if let Some(cache) = cache {
        cache.put(digest, &component);
    }
    Ok(component)
}

/// Why a component does not compile. The file's own names may be quoted in it.
fn refusal(error: &wasmtime::Error) -> PluginError {
    let message = quote(&format!("{error:#}"), MAX_MESSAGE);
    // The pool's own check, which wasmtime makes with the compiler's.
    if message.contains("pooling allocator requirements") {
        PluginError::TooDemanding(message)
    } else {
        PluginError::Malformed(message)
    }
}

/// Tells what a file is by its first bytes, where a compiler would only say
/// that it is not what it should be.
fn sniff(bytes: &[u8]) -> Result<(), PluginError> {
    const LAYER_MODULE: &[u8] = &[0, 0];
    if bytes.is_empty() {
        return Err(PluginError::Empty);
    }
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err(PluginError::Precompiled);
    }
    match bytes.strip_prefix(b"\0asm") {
        None => {
            let start = bytes.iter().take(16).copied();
            Err(PluginError::NotWasm {
                start: start.flat_map(std::ascii::escape_default).map(char::from).collect(),
            })
        }
        // After the version stands the layer: 0 for a module, 1 for a component.
        Some(rest) if rest.get(2..4) == Some(LAYER_MODULE) => Err(PluginError::CoreModule),
        Some(_) => Ok(()),
    }
}

/// Runs what computes for long on a thread of its own, that stands back behind
/// those which serve calls. A compiler that panics over one file must not stop
/// the others.
async fn apart<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, PluginError> + Send + 'static,
) -> Result<T, PluginError> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let thread = rustix::thread::gettid();
        if let Err(error) = rustix::process::setpriority_process(Some(thread), NICENESS) {
            tracing::debug!(%error, "cannot set a thread's priority");
        }
        _ = done.send(work());
    });
    match thread {
        Ok(_) => result.await.unwrap_or(Err(PluginError::HostPanicked)),
        Err(source) => Err(PluginError::NoThread(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_first_bytes() {
        let label = |bytes: &[u8]| sniff(bytes).map_err(|error| error.label());
        assert_eq!(label(b""), Err("empty"));
        assert_eq!(label(b"<html>"), Err("not_wasm"));
        assert_eq!(label(b"\0as"), Err("not_wasm"));
        assert_eq!(label(b"\0asm\x01\0\0\0"), Err("core_module"));
        assert_eq!(label(b"\0asm\x0d\0\x01\0"), Ok(()));
    }

    #[test]
    fn other_versions_of_the_contract_are_told_from_other_packages() {
        assert!(speaks_our_version("plugboard:plugin/router@0.1.0").is_ok());
        assert!(speaks_our_version("wasi:cli/run@0.2.0").is_ok());
        let error = speaks_our_version("plugboard:plugin/router@0.2.0").unwrap_err();
        assert_eq!(error.label(), "contract_version");
    }
}
