//! The kind of a verdict, with its names in journal, metrics and traces.

/// A verdict without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictKind {
    /// The plugin declines to decide.
    Pass,
    /// The call is routed.
    Route,
    /// The call is rejected.
    Reject,
}

impl VerdictKind {
    /// Returns the name in journal, metrics and traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Route => "route",
            Self::Reject => "reject",
        }
    }
}
