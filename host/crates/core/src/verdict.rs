//! The kind of a verdict, as journal, metrics and traces name it.

/// A verdict without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictKind {
    /// No opinion.
    Pass,
    /// The call goes on.
    Route,
    /// The call shall not be taken.
    Reject,
}

impl VerdictKind {
    /// The word for people and traces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Route => "route",
            Self::Reject => "reject",
        }
    }
}
