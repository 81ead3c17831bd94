//! Tools: one answer for each use, whatever the plugins do, in words that a voice
//! agent can use.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{HookAnswer, MidCall, NoAnswer, PluginAnswer, answer_once};
use crate::idempotency::Weigh;
use plugboard_core::text::sanitize;
use plugboard_core::units;
use plugboard_platform::{ToolAnswer, ToolFailure, ToolUse};
use plugboard_registry::Generation;
use plugboard_runtime::plugin::error::PluginError;
use plugboard_runtime::plugin::{Hook, Plugin, ToolResult};

/// Of a name that no plugin knows, what is logged, in bytes.
const MAX_LOGGED_NAME: usize = 128;

/// Of the tools that there are, how many are logged.
const MAX_LOGGED_TOOLS: usize = 50;

/// What a voice agent gets for using a tool, and whose word it is.
#[derive(Clone, Debug)]
pub struct ToolResponse {
    /// What the agent gets.
    pub answer: ToolAnswer,
    /// The plugin that answered.
    pub plugin: Option<Arc<str>>,
    /// Whether the cache had it.
    pub cached: bool,
}

impl ToolResponse {
    /// The word for logs and traces.
    pub fn outcome(&self) -> &'static str {
        match self.answer {
            ToolAnswer::Value(_) => "value",
            ToolAnswer::Error { .. } => "error",
            ToolAnswer::Failed(ToolFailure::TimedOut) => "late",
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

/// An answer, and whether the cache had it.
impl HookAnswer for (ToolAnswer, bool) {
    fn is_declined(&self) -> bool {
        matches!(self.0, ToolAnswer::Error { .. })
    }
}

impl From<NoAnswer> for ToolAnswer {
    fn from(why: NoAnswer) -> Self {
        match why {
            // There is such a tool, but not for this call.
            NoAnswer::Declined => Self::Unknown,
            NoAnswer::Late => Self::Failed(ToolFailure::TimedOut),
            NoAnswer::Busy => Self::Failed(ToolFailure::Busy),
            NoAnswer::Failed => Self::Failed(ToolFailure::Failed),
        }
    }
}

impl MidCall {
    /// Has a tool answered, until the deadline at the latest; and whether it was
    /// answered before, to a delivery that comes again.
    pub async fn answer_tool(
        &self,
        generation: &Generation,
        tool_use: &ToolUse,
        deadline: Instant,
    ) -> (ToolResponse, bool) {
        let ToolUse { call, delivery_id, .. } = tool_use;
        let run = self.run_tool(generation, tool_use, deadline);
        let (response, replayed) =
            answer_once(self.tool_responses.as_ref(), call, delivery_id, deadline, run).await;
        let timed_out = || {
            let answer = ToolAnswer::Failed(ToolFailure::TimedOut);
            ToolResponse { answer, plugin: None, cached: false }
        };
        (response.unwrap_or_else(timed_out), replayed)
    }

    async fn run_tool<'a>(
        &'a self,
        generation: &'a Generation,
        tool_use: &'a ToolUse,
        deadline: Instant,
    ) -> ToolResponse {
        let (start, call) = (Instant::now(), &*tool_use.call);
        let Some(chain) = generation.tool(&tool_use.name) else {
            let tool_names: Vec<&str> = generation.tools().take(MAX_LOGGED_TOOLS).collect();
            tracing::warn!(
                call = &*call.id,
                tool = ?sanitize(&tool_use.name, MAX_LOGGED_NAME),
                known = tool_names.join(", "),
                "no plugin knows this tool"
            );
            return ToolResponse { answer: ToolAnswer::Unknown, plugin: None, cached: false };
        };
        let cached = |plugin: &Plugin| self.cached_answer(plugin, tool_use);
        let invoke = |plugin: &'a Plugin| {
            self.invoke_tool(plugin, tool_use, deadline).map(|answer| answer.map(Some)).boxed()
        };
        let result = self.ask_chain(chain, Hook::Tools, call, deadline, cached, invoke).await;
        let response = match result {
            Ok(PluginAnswer { plugin: plugin_name, answer: (answer, cached) }) => {
                ToolResponse { answer, plugin: Some(plugin_name), cached }
            }
            Err(why) => {
                if why == NoAnswer::Declined {
                    tracing::warn!(
                        call = &*call.id,
                        tool = ?tool_use.name,
                        "there is such a tool, but no plugin has it for this call (platforms, match)"
                    );
                }
                ToolResponse { answer: why.into(), plugin: None, cached: false }
            }
        };
        tracing::info!(
            call = &*call.id,
            // A plugin's word, or its settings'.
            tool = ?tool_use.name,
            plugin = response.plugin.as_deref().unwrap_or("-"),
            outcome = response.outcome(),
            cached = response.cached,
            took_us = units::micros(start.elapsed()),
            "a tool was answered"
        );
        response
    }

    /// An answer of a plugin's that it gave leave to give again.
    fn cached_answer(&self, plugin: &Plugin, tool_use: &ToolUse) -> Option<(ToolAnswer, bool)> {
        let value = self.tool_cache.as_ref()?.get(plugin, tool_use)?;
        plugin.stats.tools.cached.fetch_add(1, Relaxed);
        plugin.breaker(Hook::Tools).record_success();
        Some((ToolAnswer::Value(value), true))
    }

    /// An answer of a plugin's own.
    async fn invoke_tool(
        &self,
        plugin: &Plugin,
        tool_use: &ToolUse,
        deadline: Instant,
    ) -> Result<(ToolAnswer, bool), PluginError> {
        let result = plugin
            .invoke_tool(&tool_use.call, &tool_use.name, &tool_use.arguments, deadline)
            .await?;
        let answer = match result {
            ToolResult::Value { value, cache } => {
                if let (Some(results), Some(reuse)) = (&self.tool_cache, cache) {
                    results.insert(plugin, tool_use, &value, &reuse);
                }
                ToolAnswer::Value(value)
            }
            ToolResult::Error { message, code } => ToolAnswer::Error { message, code },
        };
        Ok((answer, false))
    }
}
