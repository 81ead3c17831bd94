//! The errors of plugins: [`LoadError`] until a version serves, [`CallError`] after.
//!
//! Each variant has a label, which is the value of the metric's label, a field in the
//! log, and the outcome of the span.

mod call;
mod engine;
mod load;

pub use self::call::CallError;
pub use self::engine::EngineError;
pub(super) use self::engine::{EngineCondition, MAX_ERROR};
pub use self::load::LoadError;

/// A step in a plugin's life. Those before [`Stage::Call`] load a version.
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
    /// The name in the log and in metrics.
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
