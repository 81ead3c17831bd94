//! What is remembered of calls: platforms say who calls whom once, and ask for a
//! call's prompt by its name alone. In the store, so that it outlives a restart,
//! and in front of it in memory, as every event of a call asks for it.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use super::append_barrier::AppendBarrier;
use plugboard_config::CallsConfig;
use plugboard_core::call::Call;
use plugboard_core::call_id::CallId;
use plugboard_core::call_selector::CallSelector;
use plugboard_store::erase::ErasureResult;
use plugboard_store::{CallDocument, Store, StoreError, StoreFuture, unix_from_now};

/// Memory for calls, in bytes, before the store has to be asked.
const MAX_CACHE_BYTES: u64 = 64 << 20;

/// What an entry takes beside its texts, roughly; and one of its values.
const ENTRY_OVERHEAD: usize = 512;
const VALUE_OVERHEAD: usize = 48;

/// Metadata that is remembered of a call, in bytes: it is kept with every event.
/// Dialplans send some hundred.
const MAX_METADATA: usize = 32 << 10;

/// A call as it was told at first.
pub(super) struct CallContext {
    call: Arc<Call>,
    prompt: Option<Arc<str>>,
    /// Whether that was at its beginning, where platforms tell all.
    at_start: bool,
    /// The call as JSON, made when it is first needed.
    json: OnceLock<Arc<str>>,
}

/// What is remembered of a call, good until the next erasure begins.
pub(super) struct ContextSnapshot {
    pub(super) context: Arc<CallContext>,
    /// So many erasures had begun when it was looked up.
    pub(super) epoch: u64,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct StoredContext<'a> {
    call: Cow<'a, Call>,
    prompt: Option<Arc<str>>,
}

impl CallContext {
    pub(super) fn new(call: Arc<Call>, prompt: Option<Arc<str>>) -> Self {
        Self { call, prompt, at_start: true, json: OnceLock::new() }
    }

    /// A call that was seen first in the middle of it, by an event that may not tell all.
    fn from_partial_event(call: Arc<Call>) -> Self {
        Self { at_start: false, ..Self::new(call, None) }
    }

    /// What a later event says of its call, with what is remembered of it.
    pub(super) fn complete(&self, event_call: &Arc<Call>) -> Arc<Call> {
        if !self.at_start && !event_call.has_no_details() {
            return limit_metadata(event_call);
        }
        let Call { agent, platform, .. } = &**event_call;
        if self.call.platform == *platform && (agent.is_none() || self.call.agent == *agent) {
            return Arc::clone(&self.call);
        }
        let agent = agent.clone().or_else(|| self.call.agent.clone());
        Arc::new(Call { agent, platform: *platform, ..Call::clone(&self.call) })
    }

    /// The call's JSON.
    pub(super) fn json(&self, call: &Arc<Call>) -> Arc<str> {
        let write = || serde_json::to_string(&**call).unwrap_or_default().into();
        if Arc::ptr_eq(call, &self.call) {
            Arc::clone(self.json.get_or_init(write))
        } else {
            write()
        }
    }

    fn size(&self) -> usize {
        let Call { id, agent, from, to, metadata, .. } = &*self.call;
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let metadata: usize = metadata
            .iter()
            .map(|(name, value)| VALUE_OVERHEAD + name.len() + value.get().len())
            .sum();
        // Twice, as the JSON has it all again.
        let texts = id.len() + length(agent) + length(from) + length(to) + metadata;
        ENTRY_OVERHEAD + 2 * texts + self.prompt.as_ref().map_or(0, |prompt| prompt.len())
    }
}

/// See the [module](self).
pub(super) struct CallContexts {
    store: Arc<dyn Store>,
    config: CallsConfig,
    cached: Cache<CallId, Arc<CallContext>>,
    pub(super) append_barrier: Arc<AppendBarrier>,
}

impl CallContexts {
    pub(super) fn new(store: Arc<dyn Store>, config: CallsConfig) -> Self {
        let weigh = |call: &CallId, context: &Arc<CallContext>| {
            u32::try_from(call.id().len() + context.size()).unwrap_or(u32::MAX)
        };
        let recent = Cache::builder()
            .max_capacity(MAX_CACHE_BYTES)
            .weigher(weigh)
            .time_to_idle(config.max_age.max(Duration::from_secs(1)))
            // A new call is worth more than one that was looked up often.
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .build();
        Self { store, config, cached: recent, append_barrier: Arc::default() }
    }

    /// Remembers a call; and the document to be kept, to remember it by.
    pub(super) fn remember(
        &self,
        call: &Arc<Call>,
        prompt: Option<Arc<str>>,
    ) -> (Arc<CallContext>, Option<CallDocument>) {
        let id = call.call_id();
        let call = limit_metadata(call);
        let document = StoredContext { call: Cow::Borrowed(&call), prompt: prompt.clone() };
        let document = serde_json::to_string(&document).ok().map(|document| CallDocument {
            id: id.clone(),
            document: document.into(),
            expires_at: unix_from_now(self.config.max_age),
        });
        let context = Arc::new(CallContext::new(call, prompt));
        self.cached.insert(id, Arc::clone(&context));
        (context, document)
    }

    /// A call is over, and will be forgotten. `is_cached`: it is at hand.
    pub(super) async fn expire_after_end(&self, call: &Call, is_cached: bool) {
        let id = call.call_id();
        // Of most calls nothing was written, if nobody observes them.
        let exists =
            is_cached || self.read_stored(id.clone()).await.is_ok_and(|context| context.is_some());
        if exists {
            drop(self.store.set_call_expiry(id, unix_from_now(self.config.keep)));
        }
    }

    /// What is remembered of a call, if it is at hand.
    pub(super) fn cached(&self, call: &Call) -> Option<ContextSnapshot> {
        let epoch = self.append_barrier.epoch();
        let context = self.cached.get(&call.call_id())?;
        Some(ContextSnapshot { context, epoch })
    }

    /// What is remembered of a call that is not at hand; if nothing is, what the event
    /// itself says.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub(super) async fn load(&self, call: &Arc<Call>) -> Result<ContextSnapshot, StoreError> {
        let id = call.call_id();
        loop {
            let epoch = self.append_barrier.epoch();
            let is_erased = self.append_barrier.is_erasing(call);
            // Of a call that is being erased, the store may still tell everything.
            let stored = if is_erased { None } else { self.read_stored(id.clone()).await? };
            let Some(_append_guard) = self.append_barrier.guard_append_at(epoch) else { continue };
            let context = stored
                .unwrap_or_else(|| Arc::new(CallContext::from_partial_event(limit_metadata(call))));
            // Unless it was decided meanwhile, which tells more.
            let context = self.cached.entry(id).or_insert(context).into_value();
            return Ok(ContextSnapshot { context, epoch });
        }
    }

    /// Of a call of which nothing can be found out now: what an event says itself.
    pub(super) fn uncached(&self, event_call: &Arc<Call>) -> ContextSnapshot {
        let epoch = self.append_barrier.epoch();
        ContextSnapshot {
            context: Arc::new(CallContext::from_partial_event(limit_metadata(event_call))),
            epoch,
        }
    }

    /// Erases a call but for plugins' values, as far as it came before. To be awaited
    /// to its end.
    pub(super) fn erase(&self, call: &CallSelector) -> StoreFuture<ErasureResult> {
        let start = || {
            let evicted = call.call_ids().filter_map(|id| self.cached.remove(&id)).count() as u64;
            (evicted, self.store.erase(call.clone()))
        };
        let ((evicted, erased), erasure_guard) = self.append_barrier.begin_erasure(call, start);
        // Of some calls nothing was kept, as nobody wanted to be told.
        let combined = erased.map(move |erased| {
            drop(erasure_guard);
            erased.map(|erased| ErasureResult { calls: erased.calls.max(evicted), ..erased })
        });
        Box::pin(combined)
    }

    /// Returns the prompt of a call, if it has one.
    pub(super) async fn prompt(&self, call: CallId) -> Result<Option<Arc<str>>, StoreError> {
        let context = match self.cached.get(&call) {
            Some(cached) => Some(cached),
            None => self.read_stored(call).await?,
        };
        Ok(context.and_then(|known| known.prompt.clone()))
    }

    async fn read_stored(&self, call: CallId) -> Result<Option<Arc<CallContext>>, StoreError> {
        let Some(document) = self.store.load_call(call).await? else { return Ok(None) };
        let parsed = serde_json::from_str::<StoredContext<'_>>(&document).ok();
        Ok(parsed.map(|StoredContext { call, prompt }| {
            Arc::new(CallContext::new(Arc::new(call.into_owned()), prompt))
        }))
    }
}

/// A call without the metadata that is too much to be told with every event.
fn limit_metadata(call: &Arc<Call>) -> Arc<Call> {
    let mut remaining_bytes = MAX_METADATA;
    let kept = call.metadata.iter().take_while(|(name, value)| {
        let size = VALUE_OVERHEAD + name.len() + value.get().len();
        let fits = size <= remaining_bytes;
        remaining_bytes = remaining_bytes.saturating_sub(size);
        fits
    });
    let kept = kept.count();
    if kept == call.metadata.len() {
        return Arc::clone(call);
    }
    tracing::warn!(
        call = &*call.id,
        kept,
        of = call.metadata.len(),
        "a call has more metadata than is remembered"
    );
    let mut call = Call::clone(call);
    call.metadata.truncate(kept);
    Arc::new(call)
}
