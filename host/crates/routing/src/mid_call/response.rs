//! Responses to tool calls and transfers, which equal deliveries share.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::idempotency::Weigh;
use plugboard_platform::{ToolAnswer, ToolFailure};

/// The answer to a tool call, with its source.
#[derive(Clone, Debug)]
pub struct ToolResponse {
    /// The answer for the agent.
    pub answer: ToolAnswer,
    /// Name of the plugin that answered.
    pub plugin: Option<Arc<str>>,
    /// True if the answer came from the tool cache.
    pub cached: bool,
}

impl ToolResponse {
    /// Returns the response to a delivery whose equal is still being answered.
    pub fn timed_out() -> Self {
        Self::unanswered(ToolAnswer::Failed(ToolFailure::TimedOut))
    }

    pub(super) fn unanswered(answer: ToolAnswer) -> Self {
        Self { answer, plugin: None, cached: false }
    }

    /// Returns the outcome in logs and traces.
    pub fn outcome(&self) -> &'static str {
        match self.answer {
            ToolAnswer::Value(_) => "value",
            ToolAnswer::Error { .. } => "error",
            ToolAnswer::Failed(ToolFailure::TimedOut) => "deadline_exceeded",
            ToolAnswer::Failed(ToolFailure::Busy) => "busy",
            ToolAnswer::Failed(ToolFailure::Failed) => "failed",
            ToolAnswer::Unknown => "unknown",
        }
    }
}

impl Weigh for ToolResponse {
    fn bytes(&self) -> usize {
        match &self.answer {
            ToolAnswer::Value(value) => value.get().len(),
            ToolAnswer::Error { message, .. } => message.len(),
            ToolAnswer::Failed(_) | ToolAnswer::Unknown => 0,
        }
    }
}

/// The answer to a transfer, with its source.
#[derive(Clone, Debug)]
pub struct TransferResponse {
    /// The answer for the platform. `None`: all plugins declined, or none answered in time.
    pub answer: Option<Arc<RawValue>>,
    /// Name of the plugin that answered.
    pub plugin: Option<Arc<str>>,
    /// The outcome for operators.
    pub outcome: &'static str,
}

impl TransferResponse {
    /// Returns the response to a delivery whose equal is still being answered.
    pub fn timed_out() -> Self {
        Self::unanswered("deadline_exceeded")
    }

    pub(super) fn unanswered(outcome: &'static str) -> Self {
        Self { answer: None, plugin: None, outcome }
    }
}

impl Weigh for TransferResponse {
    fn bytes(&self) -> usize {
        self.answer.as_ref().map_or(0, |answer| answer.get().len())
    }
}
