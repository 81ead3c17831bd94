//! From files to a plugin that can be called, or to a reason that its author
//! can act on. Nothing here is on the way of a call.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

use super::bindings::RouterPluginPre;
use super::error::PluginError;
use super::limits::Limits;
use super::pace::Pace;
use super::settings::Settings;
use super::state::{State, linker};
use super::stats::Stats;
use super::{CONTRACT, Hook, Plugin, Shared};
use crate::capability::log::{MAX_MESSAGE, quote};
use crate::config::PluginLimits;
use crate::engine::Engine;

/// Largest plugin file. componentize-py makes 18 MB.
const MAX_FILE: u64 = 64 << 20;

/// For the trial instance, which shares the pool with calls.
const TRIAL: Duration = Duration::from_secs(5);

/// The package name of every version of our contract.
const PACKAGE: &str = "plugboard:plugin/";

/// Makes plugins of files.
pub struct Loader {
    engine: Engine,
    linker: Linker<State>,
    defaults: PluginLimits,
}

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The component.
    pub file: PathBuf,
    /// Its settings, which may be missing.
    pub settings: PathBuf,
}

impl Sources {
    /// A component and the settings beside it.
    pub fn beside(file: PathBuf) -> Self {
        let settings = file.with_extension("toml");
        Self { file, settings }
    }

    /// The plugin's name.
    ///
    /// # Errors
    ///
    /// When the file's name is not text.
    pub fn name(&self) -> Result<&str, PluginError> {
        let name = self.file.file_stem().and_then(|name| name.to_str());
        name.ok_or_else(|| PluginError::Name(self.file.clone()))
    }
}

impl Loader {
    /// A loader for one engine.
    ///
    /// # Errors
    ///
    /// When the engine refuses our own host functions.
    pub fn new(engine: Engine, defaults: PluginLimits) -> anyhow::Result<Self> {
        let linker = linker(engine.wasm())?;
        Ok(Self { engine, linker, defaults })
    }

    /// The settings of a plugin; the defaults when there is no file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no settings, or asks for too much.
    pub async fn settings(&self, sources: &Sources) -> Result<Settings, PluginError> {
        let path = sources.settings.clone();
        let settings = blocking(move || match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Settings::parse(&text, &path)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
            Err(source) => Err(PluginError::Unreadable { path, source }),
        })
        .await?;
        let asked = Limits::new(&settings.limits, &self.defaults).memory;
        let most = self.engine.max_memory();
        if asked > most {
            return Err(PluginError::MemoryTooLarge { asked, most });
        }
        Ok(settings)
    }

    /// Loads a component: reads, compiles, links it, and makes a first instance.
    /// Compiling is done off the runtime's threads.
    ///
    /// # Errors
    ///
    /// When it cannot be called; names the step and what to do.
    pub async fn load(&self, sources: &Sources, settings: Settings) -> Result<Plugin, PluginError> {
        let name = Arc::<str>::from(sources.name()?);
        let (file, engine) = (sources.file.clone(), self.engine.clone());
        let read = blocking(move || read(&file).and_then(|bytes| compile(&engine, bytes))).await?;
        self.check_imports(&read.component)?;
        let hooks = self.hooks(&read.component)?;
        let mismatch = |error: wasmtime::Error| PluginError::Mismatch {
            spoken: CONTRACT,
            detail: quote(&format!("{error:#}"), MAX_MESSAGE),
        };
        let pre = self.linker.instantiate_pre(&read.component).map_err(mismatch)?;
        let router = RouterPluginPre::new(pre).map_err(mismatch)?;
        let limits = Limits::new(&settings.limits, &self.defaults);
        let shared = Arc::new(Shared { name, settings, limits, pace: Pace::new() });
        super::call::try_instance(&shared, &self.engine, &router, Instant::now() + TRIAL)
            .await
            .map_err(|error| PluginError::Instantiate(Box::new(error)))?;
        Ok(Plugin {
            file: sources.file.clone(),
            digest: read.digest,
            size: read.size,
            hooks,
            stats: Stats::default(),
            shared,
            engine: self.engine.clone(),
            router: Some(router),
        })
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
            return Err(PluginError::NoHook { expected, found });
        }
        Ok(hooks)
    }

    /// Whether we have everything that a component wants, by name. Whether
    /// functions and types fit is for the linker to say.
    fn check_imports(&self, component: &Component) -> Result<(), PluginError> {
        let known = ["types", "log", "config"].map(interface);
        for (name, import) in component.component_type().imports(self.engine.wasm()) {
            speaks_our_version(name)?;
            let wasi = name.starts_with("wasi:")
                && match &import.ty {
                    ComponentItem::ComponentInstance(_) => self.has_wasi(name),
                    _ => false,
                };
            if !wasi && !known.iter().any(|known| known == name) {
                return Err(PluginError::UnknownImport {
                    import: name.to_owned(),
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
            Err(PluginError::ContractVersion { found: name.to_owned(), spoken: CONTRACT })
        }
        _ => Ok(()),
    }
}

struct Compiled {
    component: Component,
    digest: String,
    size: u64,
}

fn read(file: &Path) -> Result<Vec<u8>, PluginError> {
    let unreadable = |source| PluginError::Unreadable { path: file.to_owned(), source };
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > MAX_FILE {
        return Err(PluginError::FileTooLarge { size, most: MAX_FILE });
    }
    std::fs::read(file).map_err(unreadable)
}

fn compile(engine: &Engine, bytes: Vec<u8>) -> Result<Compiled, PluginError> {
    sniff(&bytes)?;
    let component =
        Component::from_binary(engine.wasm(), &bytes).map_err(|error| refusal(&error))?;
    let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Compiled { component, digest, size: bytes.len() as u64 })
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

/// Runs what blocks on a thread for that. A compiler that panics over one file
/// must not stop the others.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PluginError> + Send + 'static,
) -> Result<T, PluginError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(PluginError::Malformed("the compiler panicked over it".to_owned())))
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
