//! Errors of plugins: [`LoadError`] before a version serves, [`CallError`] afterwards.
//!
//! Each variant has a label, which is the value of the metric's label, a field in the log,
//! and the outcome of the span.

mod call;
mod engine;
mod load;

pub use self::call::CallError;
pub use self::engine::EngineError;
pub(super) use self::engine::{EngineCondition, MAX_ERROR};
pub use self::load::LoadError;

/// Step in the life of a plugin. The steps before [`Stage::Call`] load a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Reads the plugin's files.
    Read,
    /// Parses and checks the settings.
    Settings,
    /// Compiles the component to machine code.
    Compile,
    /// Links hooks and capabilities by name and type.
    Link,
    /// Creates the trial instance.
    Instantiate,
    /// Answers a call of a hook.
    Call,
}

impl Stage {
    /// Returns the name in the log and in metrics.
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
