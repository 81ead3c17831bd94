//! Transfers: the platform's document goes to the plugins untouched, and the first
//! answer goes back untouched.

use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{HookAnswer, MidCall, NoAnswer, PluginAnswer, answer_once};
use crate::idempotency::Weigh;
use plugboard_platform::Transfer;
use plugboard_registry::Generation;
use plugboard_runtime::plugin::{Hook, Plugin};

/// What the platform gets, and whose word it is.
#[derive(Clone, Debug)]
pub struct TransferResponse {
    /// None: nobody has an opinion, or could say it in time.
    pub answer: Option<Arc<RawValue>>,
    /// The plugin that answered.
    pub plugin: Option<Arc<str>>,
    /// What came of it, in a word.
    pub outcome: &'static str,
}

impl TransferResponse {
    fn unanswered(outcome: &'static str) -> Self {
        Self { answer: None, plugin: None, outcome }
    }
}

impl HookAnswer for Box<RawValue> {}

impl Weigh for TransferResponse {
    fn bytes(&self) -> usize {
        self.answer.as_ref().map_or(0, |answer| answer.get().len())
    }
}

impl MidCall {
    /// Asks about a transfer, until the deadline at the latest; and whether it was
    /// answered before, to a delivery that comes again.
    pub async fn answer_transfer(
        &self,
        generation: &Generation,
        transfer: &Transfer,
        deadline: Instant,
    ) -> (TransferResponse, bool) {
        let Transfer { call, delivery_id, .. } = transfer;
        let decide = self.ask_plugins(generation, transfer, deadline);
        let (response, replayed) =
            answer_once(self.transfer_responses.as_ref(), call, delivery_id, deadline, decide)
                .await;
        (response.unwrap_or_else(|| TransferResponse::unanswered("late")), replayed)
    }

    async fn ask_plugins<'a>(
        &self,
        generation: &'a Generation,
        transfer: &'a Transfer,
        deadline: Instant,
    ) -> TransferResponse {
        let Transfer { call, request, .. } = transfer;
        let chain = generation.transfers();
        let invoke = |plugin: &'a Plugin| plugin.decide_transfer(call, request, deadline).boxed();
        let answer = self.ask_chain(chain, Hook::Transfers, call, deadline, |_| None, invoke).await;
        let id = &*call.id;
        match answer {
            Ok(PluginAnswer { plugin: plugin_name, answer }) => {
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
