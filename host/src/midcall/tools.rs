//! Tools: one answer for each use, whatever the plugins do, in words that a voice
//! agent can use.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{Answered, MidCall, Said, Unanswered, once};
use crate::capability::log::quote;
use crate::deliveries::Kept;
use crate::platform::{ToolAnswer, ToolFailure, ToolUse};
use crate::plugin::error::PluginError;
use crate::plugin::{Hook, Plugin, ToolResult};
use crate::registry::Generation;
use crate::units;

/// Of a name that no plugin knows, what is logged, in bytes.
const MAX_NAME: usize = 128;

/// Of the tools that there are, how many are logged.
const MAX_KNOWN: usize = 50;

/// What a voice agent gets for using a tool, and whose word it is.
#[derive(Clone, Debug)]
pub struct ToolRuling {
    /// What the agent gets.
    pub answer: ToolAnswer,
    /// The plugin that answered.
    pub by: Option<Arc<str>>,
    /// Whether the cache had it.
    pub cached: bool,
}

impl ToolRuling {
    /// The word for logs and traces.
    pub fn outcome(&self) -> &'static str {
        match self.answer {
            ToolAnswer::Value(_) => "value",
            ToolAnswer::Error { .. } => "error",
            ToolAnswer::Failed(ToolFailure::Late) => "late",
            ToolAnswer::Failed(ToolFailure::Busy) => "busy",
            ToolAnswer::Failed(ToolFailure::Broken) => "failed",
            ToolAnswer::Unknown => "unknown",
        }
    }
}

impl Kept for ToolRuling {
    fn bytes(&self) -> usize {
        match &self.answer {
            ToolAnswer::Value(value) => value.get().len(),
            ToolAnswer::Error { message, .. } => message.len(),
            ToolAnswer::Failed(_) | ToolAnswer::Unknown => 0,
        }
    }
}

/// An answer, and whether the cache had it.
impl Said for (ToolAnswer, bool) {
    fn declines(&self) -> bool {
        matches!(self.0, ToolAnswer::Error { .. })
    }
}

impl From<Unanswered> for ToolAnswer {
    fn from(why: Unanswered) -> Self {
        match why {
            // There is such a tool, but not for this call.
            Unanswered::Nobody => Self::Unknown,
            Unanswered::Late => Self::Failed(ToolFailure::Late),
            Unanswered::Busy => Self::Failed(ToolFailure::Busy),
            Unanswered::Failed => Self::Failed(ToolFailure::Broken),
        }
    }
}

impl MidCall {
    /// Has a tool answered, until the deadline at the latest; and whether it was
    /// answered before, to a delivery that comes again.
    pub async fn tool(
        &self,
        generation: &Generation,
        used: &ToolUse,
        deadline: Instant,
    ) -> (ToolRuling, bool) {
        let ToolUse { call, delivery, .. } = used;
        let run = self.run(generation, used, deadline);
        let (ruling, again) = once(self.tools.as_ref(), call, delivery, deadline, run).await;
        let late = || {
            let answer = ToolAnswer::Failed(ToolFailure::Late);
            ToolRuling { answer, by: None, cached: false }
        };
        (ruling.unwrap_or_else(late), again)
    }

    async fn run<'a>(
        &'a self,
        generation: &'a Generation,
        used: &'a ToolUse,
        deadline: Instant,
    ) -> ToolRuling {
        let (start, call) = (Instant::now(), &*used.call);
        let Some(chain) = generation.tool(&used.name) else {
            let known: Vec<&str> = generation.tools().take(MAX_KNOWN).collect();
            tracing::warn!(
                call = call.id.as_str(),
                tool = ?quote(&used.name, MAX_NAME),
                known = known.join(", "),
                "no plugin knows this tool"
            );
            return ToolRuling { answer: ToolAnswer::Unknown, by: None, cached: false };
        };
        let kept = |plugin: &Plugin| self.kept(plugin, used);
        let ask = |plugin: &'a Plugin| {
            self.invoke(plugin, used, deadline).map(|answer| answer.map(Some)).boxed()
        };
        let answered = self.ask(chain, Hook::Tools, call, deadline, kept, ask).await;
        let ruling = match answered {
            Ok(Answered { by, answer: (answer, cached) }) => {
                ToolRuling { answer, by: Some(by), cached }
            }
            Err(why) => {
                if why == Unanswered::Nobody {
                    tracing::warn!(
                        call = call.id.as_str(),
                        tool = ?used.name,
                        "there is such a tool, but no plugin has it for this call (platforms, match)"
                    );
                }
                ToolRuling { answer: why.into(), by: None, cached: false }
            }
        };
        tracing::info!(
            call = call.id.as_str(),
            // A plugin's word, or its settings'.
            tool = ?used.name,
            plugin = ruling.by.as_deref().unwrap_or("-"),
            outcome = ruling.outcome(),
            cached = ruling.cached,
            took_us = units::micros(start.elapsed()),
            "a tool was answered"
        );
        ruling
    }

    /// An answer of a plugin's that it gave leave to give again.
    fn kept(&self, plugin: &Plugin, used: &ToolUse) -> Option<(ToolAnswer, bool)> {
        let value = self.results.as_ref()?.get(plugin, used)?;
        plugin.stats.tools.cached.fetch_add(1, Relaxed);
        plugin.breaker(Hook::Tools).answered();
        Some((ToolAnswer::Value(value), true))
    }

    /// An answer of a plugin's own.
    async fn invoke(
        &self,
        plugin: &Plugin,
        used: &ToolUse,
        deadline: Instant,
    ) -> Result<(ToolAnswer, bool), PluginError> {
        let result = plugin.invoke(&used.call, &used.name, &used.arguments, deadline).await?;
        let answer = match result {
            ToolResult::Value { value, cache } => {
                if let (Some(results), Some(reuse)) = (&self.results, cache) {
                    results.keep(plugin, used, &value, &reuse);
                }
                ToolAnswer::Value(value)
            }
            ToolResult::Error { message, code } => ToolAnswer::Error { message, code },
        };
        Ok((answer, false))
    }
}
