//! Transfers: the platform's document goes to the plugins untouched, and the first
//! answer goes back untouched.

use futures_util::FutureExt;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Answered, MidCall, Unanswered};
use crate::event::Call;
use crate::plugin::{Hook, Plugin};
use crate::registry::Generation;

impl MidCall {
    /// Asks about a transfer of a call. None: nobody has an opinion, or could say it in
    /// time.
    pub async fn transfer<'a>(
        &self,
        generation: &'a Generation,
        call: &'a Call,
        request: &'a RawValue,
        deadline: Instant,
    ) -> Option<Box<RawValue>> {
        let chain = generation.transfers();
        let ask = |plugin: &'a Plugin| plugin.transfer(call, request, deadline).boxed();
        let answer = self.ask(chain, Hook::Transfers, call, deadline, |_| None, ask).await;
        let id = call.id.as_str();
        match answer {
            Ok(Answered { by, answer }) => {
                tracing::info!(call = id, plugin = &*by, "a transfer was answered");
                Some(answer)
            }
            Err(Unanswered::Nobody) => {
                tracing::info!(call = id, "no plugin has an opinion on a transfer");
                None
            }
            Err(why) => {
                tracing::warn!(
                    call = id,
                    ?why,
                    "no plugin could answer a transfer: left to the platform"
                );
                None
            }
        }
    }
}
