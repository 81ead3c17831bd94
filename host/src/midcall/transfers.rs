//! Transfers: the platform's document goes to the plugins untouched, and the first
//! answer goes back untouched.

use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Answered, MidCall, Said, Unanswered, once};
use crate::deliveries::Kept;
use crate::platform::Transfer;
use crate::plugin::{Hook, Plugin};
use crate::registry::Generation;

/// What the platform gets, and whose word it is.
#[derive(Clone, Debug)]
pub struct TransferRuling {
    /// None: nobody has an opinion, or could say it in time.
    pub answer: Option<Arc<RawValue>>,
    /// The plugin that answered.
    pub by: Option<Arc<str>>,
    /// What came of it, in a word.
    pub outcome: &'static str,
}

impl TransferRuling {
    fn none(outcome: &'static str) -> Self {
        Self { answer: None, by: None, outcome }
    }
}

impl Said for Box<RawValue> {}

impl Kept for TransferRuling {
    fn bytes(&self) -> usize {
        self.answer.as_ref().map_or(0, |answer| answer.get().len())
    }
}

impl MidCall {
    /// Asks about a transfer, until the deadline at the latest; and whether it was
    /// answered before, to a delivery that comes again.
    pub async fn transfer(
        &self,
        generation: &Generation,
        asked: &Transfer,
        deadline: Instant,
    ) -> (TransferRuling, bool) {
        let Transfer { call, delivery, .. } = asked;
        let decide = self.decide(generation, asked, deadline);
        let (ruling, again) = once(self.transfers.as_ref(), call, delivery, deadline, decide).await;
        (ruling.unwrap_or_else(|| TransferRuling::none("late")), again)
    }

    async fn decide<'a>(
        &self,
        generation: &'a Generation,
        asked: &'a Transfer,
        deadline: Instant,
    ) -> TransferRuling {
        let Transfer { call, request, .. } = asked;
        let chain = generation.transfers();
        let ask = |plugin: &'a Plugin| plugin.transfer(call, request, deadline).boxed();
        let answer = self.ask(chain, Hook::Transfers, call, deadline, |_| None, ask).await;
        let id = call.id.as_str();
        match answer {
            Ok(Answered { by, answer }) => {
                tracing::info!(call = id, plugin = &*by, "a transfer was answered");
                TransferRuling { answer: Some(answer.into()), by: Some(by), outcome: "answered" }
            }
            Err(Unanswered::Nobody) => {
                tracing::info!(call = id, "no plugin has an opinion on a transfer");
                TransferRuling::none("declined")
            }
            Err(why) => {
                tracing::warn!(
                    call = id,
                    ?why,
                    "no plugin could answer a transfer: left to the platform"
                );
                TransferRuling::none(match why {
                    Unanswered::Late => "late",
                    Unanswered::Busy => "busy",
                    Unanswered::Failed | Unanswered::Nobody => "failed",
                })
            }
        }
    }
}
