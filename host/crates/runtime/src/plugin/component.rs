//! Compiling and linking: from the bytes of a file to a component that matches the contract,
//! or to a [`LoadError`] that names the remedy.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use super::bindings::exports::plugboard::plugin::{observer, router, tools, transfers};
use super::compile_cache::CompileCache;
use super::contract::{CONTRACT, Hook};
use super::error::{EngineCondition, EngineError, LoadError};
use super::guest_state::GuestState;
use super::plugin_files::ContentDigest;
use crate::capability::log::MAX_MESSAGE;
use crate::engine::Engine;
use plugboard_core::text::sanitize;

/// Package name of every version of the contract.
const PACKAGE: &str = "plugboard:plugin/";

/// Interfaces of the contract that a component may import, with their purposes.
pub(super) const IMPORTS: [(&str, &str); 6] = [
    ("types", "the types of the hooks"),
    ("log", "lines in the server's log"),
    ("config", "the plugin's settings"),
    ("kv", "stored values, by grant"),
    ("http", "requests to other services, by grant"),
    ("metrics", "metrics of the plugin, by grant"),
];

/// Packages of WASI that are linked.
const WASI: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Compiled component that matches the contract. Plugins with the same file share it.
pub(super) struct LinkedComponent {
    /// Size of the file, in bytes.
    pub(super) size: u64,
    pub(super) hooks: Vec<Hook>,
    pub(super) instance_pre: InstancePre<GuestState>,
    pub(super) router: Option<router::GuestIndices>,
    pub(super) observer: Option<observer::GuestIndices>,
    pub(super) tools: Option<tools::GuestIndices>,
    pub(super) transfers: Option<transfers::GuestIndices>,
}

impl LinkedComponent {
    /// Links a component with its imports, and finds its exports. `size` is that of its file,
    /// in bytes.
    pub(super) fn link(
        linker: &Linker<GuestState>,
        component: &Component,
        size: u64,
    ) -> Result<Self, LoadError> {
        check_imports(linker.engine(), component)?;
        let hooks = find_hooks(linker.engine(), component)?;
        let mismatch = |error| LoadError::ContractMismatch {
            spoken: CONTRACT,
            source: EngineError::new(error),
        };
        let pre = linker.instantiate_pre(component).map_err(mismatch)?;
        let exports_hook = |hook| hooks.contains(&hook);
        let router =
            exports_hook(Hook::Router).then(|| router::GuestIndices::new(&pre)).transpose();
        let observer =
            exports_hook(Hook::Observer).then(|| observer::GuestIndices::new(&pre)).transpose();
        let tools = exports_hook(Hook::Tools).then(|| tools::GuestIndices::new(&pre)).transpose();
        let transfers =
            exports_hook(Hook::Transfers).then(|| transfers::GuestIndices::new(&pre)).transpose();
        let (router, observer) = (router.map_err(mismatch)?, observer.map_err(mismatch)?);
        let (tools, transfers) = (tools.map_err(mismatch)?, transfers.map_err(mismatch)?);
        Ok(Self { size, hooks, instance_pre: pre, router, observer, tools, transfers })
    }
}

/// Returns the hooks that a component exports.
fn find_hooks(engine: &wasmtime::Engine, component: &Component) -> Result<Vec<Hook>, LoadError> {
    let ty = component.component_type();
    let exports: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    exports.iter().try_for_each(|name| check_contract_version(name))?;
    let hooks: Vec<Hook> = Hook::ALL
        .into_iter()
        .filter(|hook| exports.contains(&interface_name(hook.interface()).as_str()))
        .collect();
    if hooks.is_empty() {
        let expected = Hook::ALL.map(|hook| interface_name(hook.interface())).join(", ");
        let exports_text = if exports.is_empty() { "nothing".into() } else { exports.join(", ") };
        let exports_text = sanitize(&exports_text, MAX_MESSAGE);
        return Err(LoadError::NoHook { expected, found: exports_text });
    }
    Ok(hooks)
}

/// Checks that the host has every interface that a component imports, by name. The linker
/// checks functions and types.
fn check_imports(engine: &wasmtime::Engine, component: &Component) -> Result<(), LoadError> {
    let available = IMPORTS.map(|(name, _)| interface_name(name));
    for (name, import) in component.component_type().imports(engine) {
        check_contract_version(name)?;
        let is_wasi_interface = match &import.ty {
            ComponentItem::ComponentInstance(_) => is_wasi(name),
            _ => false,
        };
        if !is_wasi_interface && !available.iter().any(|interface| interface == name) {
            return Err(LoadError::UnknownImport {
                import: sanitize(name, MAX_MESSAGE),
                known: available.join(", "),
            });
        }
    }
    Ok(())
}

/// Returns whether an interface belongs to a linked package of WASI 0.2.
pub(super) fn is_wasi(name: &str) -> bool {
    WASI.iter().any(|package| name.starts_with(package))
        && name.rsplit_once('@').is_some_and(|(_, version)| version.starts_with("0.2."))
}

/// Splits the full name of a contract interface into its name and version.
pub(super) fn parse_contract_name(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?.split_once('@')
}

/// Returns the full name of an interface of the contract.
pub(super) fn interface_name(name: &str) -> String {
    let (package, version) = CONTRACT.split_once('@').unwrap_or((CONTRACT, ""));
    format!("{package}/{name}@{version}")
}

/// Rejects an interface of another version of the contract.
fn check_contract_version(name: &str) -> Result<(), LoadError> {
    let (_, host_version) = CONTRACT.split_once('@').unwrap_or_default();
    match parse_contract_name(name) {
        Some((_, version)) if version != host_version => {
            Err(LoadError::ContractVersion { found: sanitize(name, MAX_MESSAGE), spoken: CONTRACT })
        }
        _ => Ok(()),
    }
}

/// Compiles a component, or reads its machine code from the cache.
pub(super) fn compile(
    engine: &Engine,
    cache: Option<&CompileCache>,
    digest: ContentDigest,
    bytes: &[u8],
) -> Result<Component, LoadError> {
    check_file_type(bytes)?;
    if let Some(component) = cache.and_then(|cache| cache.get(engine, digest)) {
        return Ok(component);
    }
    let component = Component::from_binary(engine.wasm(), bytes).map_err(compile_error)?;
    if let Some(cache) = cache {
        cache.put(digest, &component);
    }
    Ok(component)
}

/// Classifies a compile error. The compiler also checks the limits of the pool.
fn compile_error(error: wasmtime::Error) -> LoadError {
    match EngineCondition::of(&error) {
        Some(EngineCondition::ExceedsPoolLimits) => {
            LoadError::ExceedsEngineLimits(EngineError::new(error))
        }
        _ => LoadError::Malformed(EngineError::new(error)),
    }
}

/// Detects the type of a file by its first bytes, for a more specific error than the
/// compiler's.
fn check_file_type(bytes: &[u8]) -> Result<(), LoadError> {
    const LAYER_MODULE: &[u8] = &[0, 0];
    if bytes.is_empty() {
        return Err(LoadError::EmptyFile);
    }
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err(LoadError::Precompiled);
    }
    match bytes.strip_prefix(b"\0asm") {
        None => {
            let start = bytes.iter().take(16).copied();
            Err(LoadError::NotWasm {
                start: start.flat_map(std::ascii::escape_default).map(char::from).collect(),
            })
        }
        // The layer follows the version: 0 for a module, 1 for a component.
        Some(rest) if rest.get(2..4) == Some(LAYER_MODULE) => Err(LoadError::CoreModule),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_type_is_detected_by_magic_bytes() {
        let label = |bytes: &[u8]| check_file_type(bytes).map_err(|error| error.label());
        assert_eq!(label(b""), Err("empty"));
        assert_eq!(label(b"<html>"), Err("not_wasm"));
        assert_eq!(label(b"\0as"), Err("not_wasm"));
        assert_eq!(label(b"\0asm\x01\0\0\0"), Err("core_module"));
        assert_eq!(label(b"\0asm\x0d\0\x01\0"), Ok(()));
    }

    #[test]
    fn contract_version_mismatch_is_rejected() {
        assert!(check_contract_version("plugboard:plugin/router@0.1.0").is_ok());
        assert!(check_contract_version("wasi:cli/run@0.2.0").is_ok());
        let error = check_contract_version("plugboard:plugin/router@0.2.0").unwrap_err();
        assert_eq!(error.label(), "contract_version");
    }
}
