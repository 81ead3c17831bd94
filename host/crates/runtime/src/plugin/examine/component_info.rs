//! Structure of a component, as its file declares it.

use serde::Serialize;
use wasmtime::component::Component;

use crate::capability::log::MAX_MESSAGE;
use crate::plugin::Hook;
use crate::plugin::component::{IMPORTS, interface_name, is_wasi, parse_contract_name};
use plugboard_core::text::sanitize;

/// Bytes of a page of linear memory.
const PAGE: u64 = 64 << 10;

/// What is said of an import that nobody has.
const UNKNOWN_PURPOSE: &str = "this host does not have it";

/// What a component is made of.
#[derive(Debug, Serialize)]
pub struct ComponentInfo {
    /// The versions of our contract that it speaks: one, unless something is wrong.
    pub contract: Vec<String>,
    /// What it can do for us.
    pub hooks: Vec<Hook>,
    /// What else it exports.
    pub other_exports: Vec<String>,
    /// What it wants of a host.
    pub imports: Vec<Import>,
    /// What an instance needs, where the file tells.
    pub needs: Option<InstanceRequirements>,
}

/// An interface or a function that a component wants.
#[derive(Debug, Serialize)]
pub struct Import {
    /// Its full name.
    pub name: String,
    /// Who has it.
    pub from: ImportOrigin,
    /// What it is for, and what of it a plugin gets.
    #[serde(rename = "for")]
    pub purpose: &'static str,
}

/// Who has what is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportOrigin {
    /// Our contract.
    Contract,
    /// WASI 0.2.
    Wasi,
    /// Nobody that we know.
    Unknown,
}

/// What an instance needs before it has run at all.
#[derive(Debug, Serialize)]
pub struct InstanceRequirements {
    /// Linear memories.
    pub memories: u32,
    /// Of the largest one, in bytes.
    pub initial_memory: u64,
    /// Tables.
    pub tables: u32,
    /// Of the largest one.
    pub table_elements: u64,
}

impl ComponentInfo {
    /// Of a component that was compiled.
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

    /// Whether it wants this interface of the contract.
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

    /// The interface's name in the contract, if it is one of ours.
    pub fn capability(&self) -> Option<&str> {
        parse_contract_name(&self.name).map(|(interface, _)| interface)
    }
}

fn capability_purpose(interface: &str) -> &'static str {
    let entry = IMPORTS.iter().find(|(name, _)| *name == interface);
    entry.map_or(UNKNOWN_PURPOSE, |(_, purpose)| purpose)
}

/// What an interface of WASI is for, and what of it a plugin gets.
fn wasi_purpose(name: &str) -> &'static str {
    const PURPOSES: [(&str, &str); 14] = [
        ("wasi:cli/environment@", "the environment: empty"),
        ("wasi:cli/exit@", "ending itself: a failure of the call"),
        ("wasi:cli/stdin@", "what is typed: nothing"),
        ("wasi:cli/stdout@", "printing: into its log"),
        ("wasi:cli/stderr@", "printing: into its log"),
        ("wasi:cli/terminal", "a terminal: there is none"),
        ("wasi:cli/", "being a program"),
        ("wasi:clocks/", "the time, and sleeping"),
        ("wasi:filesystem/", "files: there are none"),
        ("wasi:io/", "waiting, and what streams are made of"),
        ("wasi:random/", "random numbers"),
        ("wasi:sockets/ip-name-lookup@", "looking up names: refused"),
        ("wasi:sockets/", "the network: refused, use http of the contract"),
        ("", "something else of WASI"),
    ];
    let entry = PURPOSES.iter().find(|(start, _)| name.starts_with(start));
    entry.map_or("", |(_, purpose)| purpose)
}
