//! Tool calls of voice agents. Each call gets one answer that the agent can use, even if all
//! plugins fail.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::response::ToolResponse;
use super::{ANSWERED, DECLINED, MidCall, NoAnswer, PluginAnswer, answer_once, record_reply};
use crate::chain::{ChainQuery, Reply, walk};
use crate::idempotency::Replay;
use plugboard_core::outcome::AnswerSource;
use plugboard_core::text::sanitize;
use plugboard_core::units;
use plugboard_platform::{ToolAnswer, ToolFailure, ToolUse};
use plugboard_registry::Generation;
use plugboard_runtime::plugin::{Hook, Plugin, ToolResult};

/// Maximum logged bytes of an unknown tool's name.
const MAX_LOGGED_NAME: usize = 128;

/// Maximum number of known tools that are logged with an unknown one.
const MAX_LOGGED_TOOLS: usize = 50;

impl From<NoAnswer> for ToolAnswer {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            // Plugins have the tool, but not for this call.
            NoAnswer::Declined => Self::Unknown,
            NoAnswer::DeadlineExceeded => Self::Failed(ToolFailure::TimedOut),
            NoAnswer::Busy => Self::Failed(ToolFailure::Busy),
            NoAnswer::Failed => Self::Failed(ToolFailure::Failed),
        }
    }
}

impl MidCall {
    /// Answers a tool call, until the deadline at the latest. Equal deliveries get the
    /// same answer.
    pub async fn answer_tool(
        &self,
        generation: &Generation,
        tool_use: &ToolUse,
        deadline: Instant,
    ) -> Replay<ToolResponse> {
        let ToolUse { call, delivery_id, .. } = tool_use;
        let run = self.run_tool(generation, tool_use, deadline);
        answer_once(self.tool_responses.as_ref(), call, delivery_id, deadline, run).await
    }

    async fn run_tool(
        &self,
        generation: &Generation,
        tool_use: &ToolUse,
        deadline: Instant,
    ) -> ToolResponse {
        let (start, call) = (Instant::now(), &*tool_use.call);
        let Some(chain) = generation.tool(&tool_use.name) else {
            let tool_names: Vec<&str> = generation.tools().take(MAX_LOGGED_TOOLS).collect();
            tracing::warn!(
                call = &*call.id,
                tool = ?sanitize(&tool_use.name, MAX_LOGGED_NAME),
                known = tool_names.join(", "),
                "unknown tool"
            );
            return ToolResponse::unanswered(ToolAnswer::Unknown);
        };
        let mut query = ToolQuery { mid_call: self, tool_use, deadline };
        let walk = walk(chain, call, deadline, Some(&self.permits), &mut query).await;
        let result = PluginAnswer::from_walk(walk);
        let response = match result {
            Ok(PluginAnswer { plugin: plugin_name, source, answer }) => ToolResponse {
                answer,
                plugin: Some(plugin_name),
                cached: source == AnswerSource::Cache,
            },
            Err(no_answer) => {
                if no_answer == NoAnswer::Declined {
                    tracing::warn!(
                        call = &*call.id,
                        tool = ?tool_use.name,
                        "no plugin with this tool matches the call (platforms, match)"
                    );
                }
                ToolResponse::unanswered(no_answer.into())
            }
        };
        tracing::info!(
            call = &*call.id,
            // Safe to log: the name comes from a plugin or its settings.
            tool = ?tool_use.name,
            plugin = response.plugin.as_deref().unwrap_or("-"),
            outcome = response.outcome(),
            cached = response.cached,
            took_us = units::micros(start.elapsed()),
            "tool call answered"
        );
        response
    }
}

/// A tool call, which the tool cache answers first.
struct ToolQuery<'a> {
    mid_call: &'a MidCall,
    tool_use: &'a ToolUse,
    deadline: Instant,
}

impl ChainQuery for ToolQuery<'_> {
    type Answer = ToolAnswer;

    const HOOK: Hook = Hook::Tools;

    fn cached_answer(&self, plugin: &Arc<Plugin>) -> Option<ToolAnswer> {
        let value = self.mid_call.tool_cache.as_ref()?.get(plugin, self.tool_use)?;
        plugin.record_cached_tool_result();
        Some(ToolAnswer::Value(value))
    }

    async fn ask(&mut self, plugin: &Arc<Plugin>) -> Reply<ToolAnswer> {
        let ToolUse { call, name, arguments, .. } = self.tool_use;
        let invoke = async {
            let answer = match plugin.invoke_tool(call, name, arguments, self.deadline).await? {
                ToolResult::Value { value, cache } => {
                    if let (Some(results), Some(policy)) = (&self.mid_call.tool_cache, cache) {
                        results.insert(plugin, self.tool_use, &value, &policy);
                    }
                    ToolAnswer::Value(value)
                }
                ToolResult::Error { message, code } => ToolAnswer::Error { message, code },
            };
            Ok(Some(answer))
        };
        Reply::from_run(plugin.run_with_breaker(Hook::Tools, Box::pin(invoke)).await)
    }

    fn outcome(answer: Option<&ToolAnswer>) -> &'static str {
        match answer {
            None | Some(ToolAnswer::Error { .. }) => DECLINED,
            Some(_) => ANSWERED,
        }
    }

    fn record(&self, plugin: &Plugin, reply: &Reply<ToolAnswer>, elapsed: Duration) {
        record_reply::<Self>(plugin, &self.tool_use.call, reply, elapsed);
    }
}
