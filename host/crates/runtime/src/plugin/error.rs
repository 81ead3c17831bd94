//! What can go wrong with a plugin. One type for loading and for calling: its
//! variants are the label of the metric, the field in the log and the outcome
//! of the step; its text is for the plugin's author and the operator.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::Hook;
use plugboard_config::toml_error::TomlError;
use plugboard_core::sts_url::StsUrlError;

/// Why a plugin was not loaded, or did not decide.
#[derive(Debug, Error)]
pub enum PluginError {
    // === Loading ===
    /// The file or its settings cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder, a pipe or a device.
    #[error("{path} is no regular file", path = .0.display())]
    NotAFile(PathBuf),
    /// Somebody is writing it.
    #[error("{path} changed while it was read, again and again", path = .0.display())]
    FileChanging(PathBuf),
    /// The settings are no text.
    #[error("{path} is not UTF-8", path = .0.display())]
    SettingsNotText(PathBuf),
    /// The name cannot serve as the plugin's name.
    #[error("the file name {0:?} is not UTF-8; rename the file")]
    InvalidFileName(PathBuf),
    /// The settings are wrong.
    #[error("{0}")]
    InvalidSettings(#[from] TomlError),
    /// The settings ask for more than the server gives.
    #[error("limits.memory is {asked} bytes; the server's engine.max_memory is {most}")]
    MemoryTooLarge {
        /// The plugin's limit.
        asked: usize,
        /// The server's.
        most: usize,
    },
    /// No bytes.
    #[error("the file is empty; was the copy finished? Write to another name, then rename")]
    EmptyFile,
    /// More bytes than any plugin has.
    #[error("the file has {size} bytes; a plugin may have {most}")]
    FileTooLarge {
        /// The file's size.
        size: u64,
        /// The limit.
        most: u64,
    },
    /// Something else altogether.
    #[error("this is not WebAssembly: it starts with {start:?}, not with \"\\0asm\"")]
    NotWasm {
        /// The first bytes, printable.
        start: String,
    },
    /// A module of the kind that browsers load.
    #[error(
        "this is a core module, not a component; build for wasm32-wasip2, which makes components: \
         `cargo build --release --target wasm32-wasip2`"
    )]
    CoreModule,
    /// A bug of ours.
    #[error("the host panicked over it; please report it")]
    HostPanicked,
    /// The system is out of threads.
    #[error("no thread to compile it: {0}")]
    NoThread(#[source] std::io::Error),
    /// Compiled already, so by somebody else.
    #[error("this is compiled code (.cwasm), which cannot be checked; deploy the .wasm")]
    Precompiled,
    /// More than the pool has for one instance.
    #[error("it needs more than this server gives to a plugin: {0}")]
    ExceedsEngineLimits(String),
    /// Damaged, or by a tool with another idea of the format.
    #[error(
        "this is a damaged or unfinished component: {0}; was the copy finished? Write to another \
         name, then rename"
    )]
    Malformed(String),
    /// Nothing for us to call.
    #[error(
        "no hook is exported; expected at least one of: {expected}. It exports {found}. With the \
         Rust SDK: `plugboard_sdk::export!(MyPlugin: Router)`"
    )]
    NoHook {
        /// What we can call.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A version of the contract that we do not speak.
    #[error("it speaks {found}; this host speaks {spoken}; build it against that version")]
    ContractVersion {
        /// The interface with the plugin's version.
        found: String,
        /// The package with ours.
        spoken: &'static str,
    },
    /// Something that we do not lend.
    #[error(
        "it imports `{import}`, which this host does not have; there are: {known}, and WASI 0.2"
    )]
    UnknownImport {
        /// The import.
        import: String,
        /// What we have.
        known: String,
    },
    /// An interface of a name that we know, with other functions or types.
    #[error("its imports or exports do not fit the contract {spoken}: {detail}")]
    ContractMismatch {
        /// The package with our version.
        spoken: &'static str,
        /// In wasmtime's words.
        detail: String,
    },
    /// The means to lend what is granted cannot be made.
    #[error("what its settings grant cannot be given: {0}")]
    GrantSetup(String),
    /// The names of its tools, its own or those of its settings, cannot be used.
    #[error("its tools cannot be known by their names: {0}")]
    InvalidToolNames(String),
    /// It loads, but an instance cannot be made.
    #[error("an instance cannot be made: {0}")]
    Instantiate(#[source] Box<PluginError>),

    // === Calling ===
    /// A hook that it does not have.
    #[error("it exports no {}", .0.interface())]
    NotExported(Hook),
    /// The guest crashed.
    #[error("trap: {message}{}", said.as_deref().map(|s| format!("; it said: {s}")).unwrap_or_default())]
    Trap {
        /// What happened and where.
        message: String,
        /// The last error that the guest logged, such as a panic's message, else the end
        /// of what it printed to its standard error, such as Python's word on an
        /// exception.
        said: Option<String>,
    },
    /// The guest wanted more memory or table than it may have, and gave up.
    #[error(
        "it wanted more than its {limit} bytes of memory (limits.memory), or too large a table"
    )]
    MemoryLimitExceeded {
        /// What it may have.
        limit: usize,
    },
    /// It did not answer in time.
    #[error(
        "no answer within {0:?} (limits.timeout, event_timeout or tool_timeout, or what was left \
         of the budget)"
    )]
    Timeout(Duration),
    /// No place in the pool, or no turn on the processor.
    #[error("no room to run it in time: other guests had all engine.instances, or the processor")]
    Busy,
    /// It was not asked.
    #[error("it keeps failing and is set aside for a while (breaker.pause)")]
    CircuitOpen,
    /// It answered more than we read.
    #[error("it passed more than {limit} bytes at once")]
    HostCallDataExceeded {
        /// What we read.
        limit: usize,
    },
    /// A text of its decision is too long to be kept.
    #[error("its {what} has {length} bytes; it may have {limit}")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// What it has.
        length: usize,
        /// What it may have.
        limit: usize,
    },
    /// It said itself that it failed.
    #[error("it answered with an error: {0}")]
    GuestError(String),
    /// It answered with something else than JSON.
    #[error("its {what} is no JSON that can be used: {detail}")]
    NotJson {
        /// Which text.
        what: &'static str,
        /// Where it goes wrong; nothing of the text itself.
        detail: String,
    },
    /// It decided something that cannot be.
    #[error("its sts-url cannot be used: {0}")]
    InvalidStsUrl(#[from] StsUrlError),
}

impl PluginError {
    /// The word for metrics and logs; part of the interface.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::NotAFile(_) => "not_a_file",
            Self::FileChanging(_) => "changing",
            Self::SettingsNotText(_) => "settings_not_text",
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
            Self::NotExported(_) => "not_exported",
            Self::Instantiate(_) => "instantiate",
            Self::Trap { .. } => "trap",
            Self::MemoryLimitExceeded { .. } => "memory",
            Self::Timeout(_) => "timeout",
            Self::Busy => "busy",
            Self::CircuitOpen => "set_aside",
            Self::HostCallDataExceeded { .. } => "too_much_data",
            Self::TooLong { .. } => "too_long",
            Self::GuestError(_) => "guest_error",
            Self::NotJson { .. } => "not_json",
            Self::InvalidStsUrl(_) => "bad_url",
        }
    }

    /// Whether loading the same files again may end better: what stood in the
    /// way was not in them.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::FileChanging(_) | Self::NoThread(_) | Self::Busy => {
                true
            }
            Self::Instantiate(error) => matches!(**error, Self::Busy),
            _ => false,
        }
    }

    /// Where in a plugin's life it happened.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Unreadable { .. }
            | Self::NotAFile(_)
            | Self::FileChanging(_)
            | Self::InvalidFileName(_)
            | Self::EmptyFile
            | Self::FileTooLarge { .. } => Stage::Read,
            Self::SettingsNotText(_) | Self::InvalidSettings(_) | Self::MemoryTooLarge { .. } => {
                Stage::Settings
            }
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
            Self::NotExported(_)
            | Self::Trap { .. }
            | Self::MemoryLimitExceeded { .. }
            | Self::Timeout(_)
            | Self::Busy
            | Self::CircuitOpen
            | Self::HostCallDataExceeded { .. }
            | Self::TooLong { .. }
            | Self::GuestError(_)
            | Self::NotJson { .. }
            | Self::InvalidStsUrl(_) => Stage::Call,
        }
    }
}

/// A step in a plugin's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Reading the files.
    Read,
    /// Understanding the settings.
    Settings,
    /// Making machine code.
    Compile,
    /// Finding hooks and capabilities.
    Link,
    /// Making the first instance.
    Instantiate,
    /// Answering a call.
    Call,
}

impl Stage {
    /// The word for the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Settings => "settings",
            Self::Compile => "compile",
            Self::Link => "link",
            Self::Instantiate => "instantiate",
            Self::Call => "call",
        }
    }
}
