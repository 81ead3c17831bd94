//! Transfers: plugins get the platform's request unchanged, and the platform gets the
//! first answer unchanged.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{ANSWERED, DECLINED, MidCall, NoAnswer, PluginAnswer, answer_once, record_reply};
use crate::chain::{ChainQuery, Reply, walk};
use crate::idempotency::{Replay, Weigh};
use plugboard_platform::Transfer;
use plugboard_registry::Generation;
use plugboard_runtime::plugin::{Hook, Plugin};

/// The answer to a transfer, and where it came from.
#[derive(Clone, Debug)]
pub struct TransferResponse {
    /// `None`: no plugin has an opinion, or none answered in time.
    pub answer: Option<Arc<RawValue>>,
    /// Name of the plugin that answered.
    pub plugin: Option<Arc<str>>,
    /// The outcome for operators.
    pub outcome: &'static str,
}

impl TransferResponse {
    /// The response to a delivery whose equal is still being answered.
    pub fn timed_out() -> Self {
        Self::unanswered("late")
    }

    fn unanswered(outcome: &'static str) -> Self {
        Self { answer: None, plugin: None, outcome }
    }
}

/// A transfer that plugins may answer.
struct TransferQuery<'a> {
    transfer: &'a Transfer,
    deadline: Instant,
}

impl ChainQuery for TransferQuery<'_> {
    type Answer = Box<RawValue>;

    const HOOK: Hook = Hook::Transfers;

    async fn ask(&mut self, plugin: &Arc<Plugin>) -> Reply<Box<RawValue>> {
        let Transfer { call, request, .. } = self.transfer;
        let decide = Box::pin(plugin.decide_transfer(call, request, self.deadline));
        Reply::from_run(plugin.run_with_breaker(Hook::Transfers, decide).await)
    }

    fn outcome(answer: Option<&Box<RawValue>>) -> &'static str {
        if answer.is_some() { ANSWERED } else { DECLINED }
    }

    fn record(&self, plugin: &Plugin, reply: &Reply<Box<RawValue>>, elapsed: Duration) {
        record_reply::<Self>(plugin, &self.transfer.call, reply, elapsed);
    }
}

impl Weigh for TransferResponse {
    fn bytes(&self) -> usize {
        self.answer.as_ref().map_or(0, |answer| answer.get().len())
    }
}

impl MidCall {
    /// Answers a transfer request, until the deadline at the latest. Equal deliveries get
    /// the same answer.
    pub async fn answer_transfer(
        &self,
        generation: &Generation,
        transfer: &Transfer,
        deadline: Instant,
    ) -> Replay<TransferResponse> {
        let Transfer { call, delivery_id, .. } = transfer;
        let decide = self.ask_plugins(generation, transfer, deadline);
        answer_once(self.transfer_responses.as_ref(), call, delivery_id, deadline, decide).await
    }

    async fn ask_plugins(
        &self,
        generation: &Generation,
        transfer: &Transfer,
        deadline: Instant,
    ) -> TransferResponse {
        let (call, chain) = (&*transfer.call, generation.transfers());
        let mut query = TransferQuery { transfer, deadline };
        let walk = walk(chain, call, deadline, Some(&self.permits), &mut query).await;
        let answer = PluginAnswer::from_walk(walk);
        let id = &*call.id;
        match answer {
            Ok(PluginAnswer { plugin: plugin_name, answer, .. }) => {
                tracing::info!(call = id, plugin = &*plugin_name, "a transfer was answered");
                TransferResponse {
                    answer: Some(answer.into()),
                    plugin: Some(plugin_name),
                    outcome: "answered",
                }
            }
            Err(NoAnswer::Declined) => {
                tracing::info!(call = id, "no plugin has an opinion on a transfer");
                TransferResponse::unanswered("declined")
            }
            Err(why) => {
                tracing::warn!(
                    call = id,
                    ?why,
                    "no plugin could answer a transfer: left to the platform"
                );
                TransferResponse::unanswered(match why {
                    NoAnswer::Late => "late",
                    NoAnswer::Busy => "busy",
                    NoAnswer::Failed | NoAnswer::Declined => "failed",
                })
            }
        }
    }
}
