//! Compiling and linking: from the bytes of a file to a component that fits the
//! contract, or to a [`LoadError`] that its author can act on.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use super::bindings::exports::plugboard::plugin::{observer, router, tools, transfers};
use super::compile_cache::CompileCache;
use super::error::{EngineCondition, EngineError, LoadError};
use super::guest_state::GuestState;
use super::plugin_files::ContentDigest;
use super::{CONTRACT, Hook};
use crate::capability::log::MAX_MESSAGE;
use crate::engine::Engine;
use plugboard_core::text::sanitize;

/// The package name of every version of our contract.
const PACKAGE: &str = "plugboard:plugin/";

/// What a component may import of the contract, and what each is for.
pub(super) const IMPORTS: [(&str, &str); 6] = [
    ("types", "the types that hooks speak of"),
    ("log", "lines in the host's log"),
    ("config", "its settings"),
    ("kv", "values that outlive a call, by grant"),
    ("http", "requests to other services, by grant"),
    ("metrics", "figures of its own, by grant"),
];

/// The packages of WASI that are linked.
const WASI: [&str; 6] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// A component that was compiled and found to fit the contract. Made once,
/// however many plugins are made of it.
pub(super) struct LinkedComponent {
    /// Of the file, in bytes.
    pub(super) size: u64,
    pub(super) hooks: Vec<Hook>,
    pub(super) instance_pre: InstancePre<GuestState>,
    pub(super) router: Option<router::GuestIndices>,
    pub(super) observer: Option<observer::GuestIndices>,
    pub(super) tools: Option<tools::GuestIndices>,
    pub(super) transfers: Option<transfers::GuestIndices>,
}

impl LinkedComponent {
    /// Connects a component of so many bytes with what it imports, and finds what it
    /// exports.
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

/// The hooks that a component exports.
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

/// Whether we have everything that a component wants, by name. Whether
/// functions and types fit is for the linker to say.
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

/// Whether an interface is one of those of WASI that are linked.
pub(super) fn is_wasi(name: &str) -> bool {
    WASI.iter().any(|package| name.starts_with(package))
        && name.rsplit_once('@').is_some_and(|(_, version)| version.starts_with("0.2."))
}

/// An interface of the contract, of whatever version: its name and the version.
pub(super) fn parse_contract_name(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?.split_once('@')
}

/// The full name of one of our interfaces.
pub(super) fn interface_name(name: &str) -> String {
    let (package, version) = CONTRACT.split_once('@').unwrap_or((CONTRACT, ""));
    format!("{package}/{name}@{version}")
}

/// Refuses a name of our contract with another version.
fn check_contract_version(name: &str) -> Result<(), LoadError> {
    let (_, host_version) = CONTRACT.split_once('@').unwrap_or_default();
    match parse_contract_name(name) {
        Some((_, version)) if version != host_version => {
            Err(LoadError::ContractVersion { found: sanitize(name, MAX_MESSAGE), spoken: CONTRACT })
        }
        _ => Ok(()),
    }
}

/// Machine code for a component, from the cache if it has it.
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

/// Classifies a compile error. The pool's limits are checked with the compiler's.
fn compile_error(error: wasmtime::Error) -> LoadError {
    match EngineCondition::of(&error) {
        Some(EngineCondition::ExceedsPoolLimits) => {
            LoadError::ExceedsEngineLimits(EngineError::new(error))
        }
        _ => LoadError::Malformed(EngineError::new(error)),
    }
}

/// Tells what a file is by its first bytes, where a compiler would only say
/// that it is not what it should be.
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
        // After the version stands the layer: 0 for a module, 1 for a component.
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
