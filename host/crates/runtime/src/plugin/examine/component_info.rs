//! Structure of a component, as declared in its file.

use serde::Serialize;
use wasmtime::component::Component;

use crate::capability::log::MAX_MESSAGE;
use crate::plugin::component::{IMPORTS, interface_name, is_wasi, parse_contract_name};
use crate::plugin::contract::Hook;
use plugboard_core::text::sanitize;

/// Size of a page of linear memory, in bytes.
const PAGE: u64 = 64 << 10;

/// Purpose of an import that the host does not provide.
const UNKNOWN_PURPOSE: &str = "not provided by this server";

/// Contents of a component.
#[derive(Debug, Serialize)]
pub struct ComponentInfo {
    /// Versions of the contract in its imports and exports; one in a valid plugin.
    pub contract: Vec<String>,
    /// Hooks that it exports.
    pub hooks: Vec<Hook>,
    /// Exports that are not hooks.
    pub other_exports: Vec<String>,
    /// Interfaces and functions that it imports.
    pub imports: Vec<Import>,
    /// Requirements of an instance, if the file declares them.
    pub needs: Option<InstanceRequirements>,
}

/// Interface or function that a component imports.
#[derive(Debug, Serialize)]
pub struct Import {
    /// Full name of the import.
    pub name: String,
    /// Provider of the import.
    pub from: ImportOrigin,
    /// Purpose of the import, and the part of it that a plugin may use.
    pub purpose: &'static str,
}

/// Provider of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportOrigin {
    /// The contract of Plugboard.
    Contract,
    /// The linked packages of WASI 0.2.
    Wasi,
    /// No known provider: the component cannot be linked.
    Unknown,
}

/// Requirements of an instance before its first call.
#[derive(Debug, Serialize)]
pub struct InstanceRequirements {
    /// Number of linear memories in an instance.
    pub memories: u32,
    /// Initial size of the largest memory, in bytes.
    pub initial_memory: u64,
    /// Number of tables in an instance.
    pub tables: u32,
    /// Initial number of elements of the largest table.
    pub table_elements: u64,
}

impl ComponentInfo {
    /// Describes a compiled component.
    pub(super) fn new(component: &Component) -> Self {
        let (ty, engine) = (component.component_type(), component.engine());
        let exports: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
        let imports: Vec<&str> = ty.imports(engine).map(|(name, _)| name).collect();
        let find_hook = |name: &str| {
            Hook::ALL.into_iter().find(|hook| interface_name(hook.interface()) == name)
        };
        let versions = exports.iter().chain(&imports).filter_map(|name| parse_contract_name(name));
        let mut contract: Vec<String> =
            versions.map(|(_, version)| sanitize(version, MAX_MESSAGE)).collect();
        contract.sort_unstable();
        contract.dedup();
        let other_exports = exports.iter().filter(|name| find_hook(name).is_none());
        let needs = component.resources_required().map(|needs| InstanceRequirements {
            memories: needs.num_memories,
            initial_memory: needs.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE),
            tables: needs.num_tables,
            table_elements: needs.max_initial_table_size.unwrap_or(0),
        });
        Self {
            contract,
            hooks: Hook::ALL
                .into_iter()
                .filter(|hook| exports.iter().any(|name| find_hook(name) == Some(*hook)))
                .collect(),
            other_exports: other_exports.map(|name| sanitize(name, MAX_MESSAGE)).collect(),
            imports: imports.into_iter().map(Import::new).collect(),
            needs,
        }
    }

    /// Returns whether it imports this interface of the contract.
    pub(super) fn imports_capability(&self, name: &str) -> bool {
        self.imports.iter().any(|import| import.capability() == Some(name))
    }
}

impl Import {
    fn new(name: &str) -> Self {
        let (from, purpose) = match parse_contract_name(name) {
            Some((interface, _)) => (ImportOrigin::Contract, capability_purpose(interface)),
            None if is_wasi(name) => (ImportOrigin::Wasi, wasi_purpose(name)),
            None => (ImportOrigin::Unknown, UNKNOWN_PURPOSE),
        };
        Self { name: sanitize(name, MAX_MESSAGE), from, purpose }
    }

    /// Returns the name of the interface in the contract, if it belongs to it.
    pub fn capability(&self) -> Option<&str> {
        parse_contract_name(&self.name).map(|(interface, _)| interface)
    }
}

fn capability_purpose(interface: &str) -> &'static str {
    let entry = IMPORTS.iter().find(|(name, _)| *name == interface);
    entry.map_or(UNKNOWN_PURPOSE, |(_, purpose)| purpose)
}

/// Returns the purpose of an interface of WASI, and the part of it that a plugin may use.
fn wasi_purpose(name: &str) -> &'static str {
    const PURPOSES: [(&str, &str); 14] = [
        ("wasi:cli/environment@", "environment: empty"),
        ("wasi:cli/exit@", "exit: a failure of the call"),
        ("wasi:cli/stdin@", "standard input: empty"),
        ("wasi:cli/stdout@", "output: into the plugin's log"),
        ("wasi:cli/stderr@", "output: into the plugin's log"),
        ("wasi:cli/terminal", "terminal: none"),
        ("wasi:cli/", "command-line programs"),
        ("wasi:clocks/", "time and sleeping"),
        ("wasi:filesystem/", "files: none"),
        ("wasi:io/", "streams and polling"),
        ("wasi:random/", "random numbers"),
        ("wasi:sockets/ip-name-lookup@", "name lookup: denied"),
        ("wasi:sockets/", "network: denied, use http of the contract"),
        ("", "other interfaces of WASI"),
    ];
    let entry = PURPOSES.iter().find(|(start, _)| name.starts_with(start));
    entry.map_or("", |(_, purpose)| purpose)
}
