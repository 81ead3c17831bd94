//! The contract with plugins: its version and its hooks.

use crate::engine::Priority;

/// Package and version of the contract, as in `wit/`.
pub const CONTRACT: &str = "plugboard:plugin@0.1.0";

/// Hook: an interface of the contract that a plugin can export and the host calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// Decides where a call goes.
    Router,
    /// Receives the events of calls.
    Observer,
    /// Answers tool calls of voice agents.
    Tools,
    /// Decides transfers of calls.
    Transfers,
}

impl Hook {
    /// All hooks of the contract.
    pub const ALL: [Self; 4] = [Self::Router, Self::Observer, Self::Tools, Self::Transfers];

    /// Returns the name of the interface in the contract.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Observer => "observer",
            Self::Tools => "tools",
            Self::Transfers => "transfers",
        }
    }

    /// Returns the priority class of calls of this hook.
    pub(super) fn priority(self) -> Priority {
        match self {
            Self::Router => Priority::Decision,
            Self::Observer => Priority::Event,
            Self::Tools | Self::Transfers => Priority::MidCall,
        }
    }
}
