//! Transfers: plugins get the platform's request unchanged, and the platform gets the
//! first answer unchanged.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::response::TransferResponse;
use super::{ANSWERED, DECLINED, MidCall, NoAnswer, PluginAnswer, answer_once, record_reply};
use crate::chain::{ChainQuery, Reply, walk};
use crate::idempotency::Replay;
use plugboard_platform::Transfer;
use plugboard_registry::Generation;
use plugboard_runtime::plugin::{Hook, Plugin};

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
                tracing::info!(call = id, plugin = &*plugin_name, "transfer answered");
                TransferResponse {
                    answer: Some(answer.into()),
                    plugin: Some(plugin_name),
                    outcome: "answered",
                }
            }
            Err(NoAnswer::Declined) => {
                tracing::info!(call = id, "transfer declined by all plugins");
                TransferResponse::unanswered("declined")
            }
            Err(no_answer) => {
                tracing::warn!(
                    call = id,
                    reason = ?no_answer,
                    "no plugin answered the transfer; the platform continues without an answer"
                );
                TransferResponse::unanswered(match no_answer {
                    NoAnswer::DeadlineExceeded => "deadline_exceeded",
                    NoAnswer::Busy => "busy",
                    NoAnswer::Failed | NoAnswer::Declined => "failed",
                })
            }
        }
    }
}
