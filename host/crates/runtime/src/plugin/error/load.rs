//! Why a version of a plugin cannot be loaded.

use std::path::PathBuf;
use std::str::Utf8Error;

use thiserror::Error;

use super::{CallError, EngineError, Stage};
use plugboard_config::toml_error::TomlError;

/// Why a version of a plugin cannot be loaded. The text is for the plugin's author and
/// the operator.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file or its settings cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is a folder, a pipe or a device.
    #[error("{path} is no regular file", path = .0.display())]
    NotAFile(PathBuf),
    /// The file is being written.
    #[error("{path} changed while it was read, again and again", path = .0.display())]
    FileChanging(PathBuf),
    /// The settings are not text.
    #[error("{path} is not UTF-8", path = .path.display())]
    SettingsNotText {
        /// The settings file.
        path: PathBuf,
        /// Where it is not UTF-8.
        source: Utf8Error,
    },
    /// The file name cannot be the plugin's name.
    #[error("the file name {0:?} is not UTF-8; rename the file")]
    InvalidFileName(PathBuf),
    /// The settings are invalid.
    #[error("{0}")]
    InvalidSettings(#[from] TomlError),
    /// The settings ask for more memory than the server allows.
    #[error("limits.memory is {asked} bytes; the server's engine.max_memory is {most}")]
    MemoryTooLarge {
        /// The plugin's limit, in bytes.
        asked: usize,
        /// The server's limit, in bytes.
        most: usize,
    },
    /// The file is empty.
    #[error("the file is empty; was the copy finished? Write to another name, then rename")]
    EmptyFile,
    /// The file is larger than any plugin may be.
    #[error("the file has {size} bytes; a plugin may have {most}")]
    FileTooLarge {
        /// The file's size, in bytes.
        size: u64,
        /// The limit, in bytes.
        most: u64,
    },
    /// The file is not WebAssembly.
    #[error("this is not WebAssembly: it starts with {start:?}, not with \"\\0asm\"")]
    NotWasm {
        /// The first bytes, escaped.
        start: String,
    },
    /// The file is a core module, not a component.
    #[error(
        "this is a core module, not a component; build for wasm32-wasip2, which makes components: \
         `cargo build --release --target wasm32-wasip2`"
    )]
    CoreModule,
    /// Reading or compiling the file panicked: a bug of the host.
    #[error("the host panicked over it; please report it")]
    HostPanicked,
    /// The system has no thread left to compile it.
    #[error("no thread to compile it: {0}")]
    NoThread(#[source] std::io::Error),
    /// The file is machine code that another program compiled. It is never run.
    #[error("this is compiled code (.cwasm), which cannot be checked; deploy the .wasm")]
    Precompiled,
    /// The component needs more than the pool reserves for one instance.
    #[error("it needs more than this server gives to a plugin: {0}")]
    ExceedsEngineLimits(#[source] EngineError),
    /// The component does not compile: it is damaged, or of another format version.
    #[error(
        "this is a damaged or unfinished component: {0}; was the copy finished? Write to another \
         name, then rename"
    )]
    Malformed(#[source] EngineError),
    /// The component exports no hook.
    #[error(
        "no hook is exported; expected at least one of: {expected}. It exports {found}. With the \
         Rust SDK: `plugboard_sdk::export!(MyPlugin: Router)`"
    )]
    NoHook {
        /// The hooks' interfaces.
        expected: String,
        /// The component's exports.
        found: String,
    },
    /// The component is built against another version of the contract.
    #[error("it speaks {found}; this host speaks {spoken}; build it against that version")]
    ContractVersion {
        /// The plugin's interface, with its version.
        found: String,
        /// The host's package, with its version.
        spoken: &'static str,
    },
    /// The component imports an interface that the host does not have.
    #[error(
        "it imports `{import}`, which this host does not have; there are: {known}, and WASI 0.2"
    )]
    UnknownImport {
        /// The interface.
        import: String,
        /// The interfaces that the host has.
        known: String,
    },
    /// An interface has other functions or types than the contract.
    #[error("its imports or exports do not fit the contract {spoken}: {source}")]
    ContractMismatch {
        /// The host's package, with its version.
        spoken: &'static str,
        /// What does not fit.
        source: EngineError,
    },
    /// A granted capability cannot be set up.
    #[error("what its settings grant cannot be given: {0}")]
    GrantSetup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The tool names, of the component or of the settings, cannot be used.
    #[error("its tools cannot be known by their names: {0}")]
    InvalidToolNames(String),
    /// The component cannot be instantiated.
    #[error("an instance cannot be made: {0}")]
    Instantiate(#[source] CallError),
}

impl LoadError {
    /// The label in metrics, the log and `/plugins`; part of the interface.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::NotAFile(_) => "not_a_file",
            Self::FileChanging(_) => "changing",
            Self::SettingsNotText { .. } => "settings_not_text",
            Self::InvalidFileName(_) => "name",
            Self::InvalidSettings(_) => "settings",
            Self::MemoryTooLarge { .. } => "memory_too_large",
            Self::EmptyFile => "empty",
            Self::FileTooLarge { .. } => "file_too_large",
            Self::NotWasm { .. } => "not_wasm",
            Self::CoreModule => "core_module",
            Self::HostPanicked => "host_panicked",
            Self::NoThread(_) => "no_thread",
            Self::Precompiled => "precompiled",
            Self::ExceedsEngineLimits(_) => "too_demanding",
            Self::Malformed(_) => "malformed",
            Self::NoHook { .. } => "no_hook",
            Self::ContractVersion { .. } => "contract_version",
            Self::UnknownImport { .. } => "unknown_import",
            Self::ContractMismatch { .. } => "mismatch",
            Self::GrantSetup(_) => "grants",
            Self::InvalidToolNames(_) => "tool_names",
            Self::Instantiate(_) => "instantiate",
        }
    }

    /// Whether loading the same files again may succeed, because the cause is not in
    /// the files.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreadable { .. }
                | Self::FileChanging(_)
                | Self::NoThread(_)
                | Self::Instantiate(CallError::Busy)
        )
    }

    /// The step of loading that failed.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Unreadable { .. }
            | Self::NotAFile(_)
            | Self::FileChanging(_)
            | Self::InvalidFileName(_)
            | Self::EmptyFile
            | Self::FileTooLarge { .. } => Stage::Read,
            Self::SettingsNotText { .. }
            | Self::InvalidSettings(_)
            | Self::MemoryTooLarge { .. } => Stage::Settings,
            Self::NotWasm { .. }
            | Self::CoreModule
            | Self::HostPanicked
            | Self::NoThread(_)
            | Self::Precompiled
            | Self::ExceedsEngineLimits(_)
            | Self::Malformed(_) => Stage::Compile,
            Self::NoHook { .. }
            | Self::ContractVersion { .. }
            | Self::UnknownImport { .. }
            | Self::GrantSetup(_)
            | Self::ContractMismatch { .. } => Stage::Link,
            Self::Instantiate(_) | Self::InvalidToolNames(_) => Stage::Instantiate,
        }
    }
}
