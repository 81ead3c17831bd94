//! Error of loading a version of a plugin.

use std::path::PathBuf;
use std::str::Utf8Error;

use thiserror::Error;

use super::{CallError, EngineError, Stage};
use plugboard_config::toml_error::TomlError;

/// Error of loading a version of a plugin. The text is for the plugin's author and the
/// operator.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file or its settings cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file is a folder, a pipe or a device.
    #[error("{path} is not a regular file", path = .0.display())]
    NotAFile(PathBuf),
    /// The file is being written.
    #[error("{path} kept changing while it was read", path = .0.display())]
    FileChanging(PathBuf),
    /// The settings are not UTF-8.
    #[error("{path} is not UTF-8", path = .path.display())]
    SettingsNotUtf8 {
        /// Path of the settings file.
        path: PathBuf,
        /// Position of the invalid bytes.
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
        /// Limit of the plugin, in bytes.
        asked: usize,
        /// Limit of the server, in bytes.
        most: usize,
    },
    /// The file is empty.
    #[error("the file is empty; if the copy was not finished, copy to another name, then rename")]
    EmptyFile,
    /// The file is larger than any plugin may be.
    #[error("the file has {size} bytes; expected at most {most}")]
    FileTooLarge {
        /// Size of the file, in bytes.
        size: u64,
        /// Maximum size, in bytes.
        most: u64,
    },
    /// The file is not WebAssembly.
    #[error("the file is not WebAssembly: it starts with {start:?} instead of \"\\0asm\"")]
    NotWasm {
        /// First bytes of the file, escaped.
        start: String,
    },
    /// The file is a core module, not a component.
    #[error(
        "the file is a core module, not a component; build for wasm32-wasip2: `cargo build \
         --release --target wasm32-wasip2`"
    )]
    CoreModule,
    /// Reading or compiling the file panicked: a bug of the host.
    #[error("Plugboard panicked while it loaded the file; please report it")]
    HostPanicked,
    /// The system has no thread left to compile it.
    #[error("cannot start a thread to compile the file: {0}")]
    NoThread(#[source] std::io::Error),
    /// The file is machine code that another program compiled. The host never runs it.
    #[error("the file is machine code (.cwasm), which cannot be verified; deploy the .wasm")]
    Precompiled,
    /// The component needs more than the pool reserves for one instance.
    #[error("the component exceeds the limits of the engine: {0}")]
    ExceedsEngineLimits(#[source] EngineError),
    /// The component does not compile: it is damaged, or has another format version.
    #[error(
        "the component is damaged or incomplete: {0}; if the copy was not finished, copy to \
         another name, then rename"
    )]
    Malformed(#[source] EngineError),
    /// The component exports no hook.
    #[error(
        "the component exports no hook; expected at least one of: {expected}. It exports {found}. \
         With the Rust SDK: `plugboard_sdk::export!(MyPlugin: Router)`"
    )]
    NoHook {
        /// Interfaces of the hooks.
        expected: String,
        /// Exports of the component.
        found: String,
    },
    /// The component is built against another version of the contract.
    #[error(
        "the component uses {found}; this server supports {spoken}; build the plugin against that \
         version"
    )]
    ContractVersion {
        /// Interface of the plugin, with its version.
        found: String,
        /// Package of the host, with its version.
        spoken: &'static str,
    },
    /// The component imports an interface that the host does not have.
    #[error(
        "the component imports `{import}`, which this server does not provide; available: {known}, \
         and WASI 0.2"
    )]
    UnknownImport {
        /// Name of the interface.
        import: String,
        /// Interfaces that the host has.
        known: String,
    },
    /// An interface has other functions or types than the contract.
    #[error("the component's imports or exports do not match the contract {spoken}: {source}")]
    ContractMismatch {
        /// Package of the host, with its version.
        spoken: &'static str,
        /// Mismatch of names or types.
        source: EngineError,
    },
    /// A granted capability cannot be set up.
    #[error("cannot set up the capabilities that the settings grant: {0}")]
    GrantSetup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The tool names of the component or of the settings are invalid.
    #[error("invalid tool names: {0}")]
    InvalidToolNames(String),
    /// The component cannot be instantiated.
    #[error("cannot create an instance: {0}")]
    Instantiate(#[source] CallError),
}

impl LoadError {
    /// Returns the label in metrics, the log and `/plugins`, which is part of the interface.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::NotAFile(_) => "not_a_file",
            Self::FileChanging(_) => "file_changing",
            Self::SettingsNotUtf8 { .. } => "settings_not_utf8",
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
            Self::ExceedsEngineLimits(_) => "exceeds_engine_limits",
            Self::Malformed(_) => "malformed",
            Self::NoHook { .. } => "no_hook",
            Self::ContractVersion { .. } => "contract_version",
            Self::UnknownImport { .. } => "unknown_import",
            Self::ContractMismatch { .. } => "contract_mismatch",
            Self::GrantSetup(_) => "grants",
            Self::InvalidToolNames(_) => "tool_names",
            Self::Instantiate(_) => "instantiate",
        }
    }

    /// Returns whether loading the same files again may succeed, because the cause is not in
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

    /// Returns the step of loading that failed.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Unreadable { .. }
            | Self::NotAFile(_)
            | Self::FileChanging(_)
            | Self::InvalidFileName(_)
            | Self::EmptyFile
            | Self::FileTooLarge { .. } => Stage::Read,
            Self::SettingsNotUtf8 { .. }
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
