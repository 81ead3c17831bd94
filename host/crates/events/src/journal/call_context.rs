//! Call contexts: the call data of the first request, for later events of the call.
//!
//! Platforms send the numbers of a call once, and request its prompt by its id alone.
//! Contexts are in the store, so that they survive a restart, and cached in memory,
//! because every event of a call needs its context.

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

/// The size of the cache, in bytes.
const MAX_CACHE_BYTES: u64 = 64 << 20;

/// The approximate memory of an entry, and of a metadata value, beside its texts, in bytes.
const ENTRY_OVERHEAD: usize = 512;
const VALUE_OVERHEAD: usize = 48;

/// The maximum metadata of a context, in bytes, because it is stored with every event.
/// Dialplans send some hundred bytes.
const MAX_METADATA: usize = 32 << 10;

/// A call as its first request described it.
pub(super) struct CallContext {
    call: Arc<Call>,
    prompt: Option<Arc<str>>,
    /// True if that request was the start of the call, which has all details.
    at_start: bool,
    /// The call as JSON, written at first use.
    json: OnceLock<Arc<str>>,
}

/// A context, valid until the next erasure begins.
pub(super) struct ContextSnapshot {
    pub(super) context: Arc<CallContext>,
    /// The epoch of the append barrier when it was read.
    pub(super) epoch: u64,
}

/// A context in the store.
#[derive(Serialize, Deserialize)]
struct StoredContext<'a> {
    call: Cow<'a, Call>,
    prompt: Option<Arc<str>>,
}

impl CallContext {
    pub(super) fn new(call: Arc<Call>, prompt: Option<Arc<str>>) -> Self {
        Self { call, prompt, at_start: true, json: OnceLock::new() }
    }

    /// Creates the context of a call whose first event came in the middle of the call. The
    /// context may lack details.
    fn from_partial_event(call: Arc<Call>) -> Self {
        Self { at_start: false, ..Self::new(call, None) }
    }

    /// Returns the call of a later event with the details of the context.
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

    /// Returns a call as JSON.
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
        // The texts count twice, because the JSON repeats them.
        let texts = id.len() + length(agent) + length(from) + length(to) + metadata;
        ENTRY_OVERHEAD + 2 * texts + self.prompt.as_ref().map_or(0, |prompt| prompt.len())
    }
}

/// The contexts of calls, see the [module](self).
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
            // A new call is more likely to be needed than one that was often read.
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .build();
        Self { store, config, cached: recent, append_barrier: Arc::default() }
    }

    /// Caches the context of a new call. Returns it with the document for the store.
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

    /// Shortens the time to live of the context after the call ended. `is_cached`: the context
    /// is known to exist.
    pub(super) async fn expire_after_end(&self, call: &Call, is_cached: bool) {
        let id = call.call_id();
        // Without observers, most calls have no stored context.
        let exists =
            is_cached || self.read_stored(id.clone()).await.is_ok_and(|context| context.is_some());
        if exists {
            drop(self.store.set_call_expiry(id, unix_from_now(self.config.retention)));
        }
    }

    /// Returns the context of a call, if it is cached.
    pub(super) fn cached(&self, call: &Call) -> Option<ContextSnapshot> {
        let epoch = self.append_barrier.epoch();
        let context = self.cached.get(&call.call_id())?;
        Some(ContextSnapshot { context, epoch })
    }

    /// Reads the context of a call from the store. Without a stored context, uses the call data
    /// of the event.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be read.
    pub(super) async fn load(&self, call: &Arc<Call>) -> Result<ContextSnapshot, StoreError> {
        let id = call.call_id();
        loop {
            let epoch = self.append_barrier.epoch();
            let is_erased = self.append_barrier.is_erasing(call);
            // The store may still have the context of a call that is being erased.
            let stored = if is_erased { None } else { self.read_stored(id.clone()).await? };
            let Some(_append_guard) = self.append_barrier.guard_append_at(epoch) else { continue };
            let context = stored
                .unwrap_or_else(|| Arc::new(CallContext::from_partial_event(limit_metadata(call))));
            // A concurrent decision may have cached a context with more details.
            let context = self.cached.entry(id).or_insert(context).into_value();
            return Ok(ContextSnapshot { context, epoch });
        }
    }

    /// Returns a context with the call data of an event, for when the store does not answer in
    /// time.
    pub(super) fn uncached(&self, event_call: &Arc<Call>) -> ContextSnapshot {
        let epoch = self.append_barrier.epoch();
        ContextSnapshot {
            context: Arc::new(CallContext::from_partial_event(limit_metadata(event_call))),
            epoch,
        }
    }

    /// Erases everything that was stored about the selected calls by earlier requests, except
    /// plugins' values. The future must be awaited to its end.
    pub(super) fn erase(&self, call: &CallSelector) -> StoreFuture<ErasureResult> {
        let start = || {
            let evicted = call.call_ids().filter_map(|id| self.cached.remove(&id)).count() as u64;
            (evicted, self.store.erase(call.clone()))
        };
        let ((evicted, erased), erasure_guard) = self.append_barrier.begin_erasure(call, start);
        // Without observers, some calls are only in memory.
        let combined = erased.map(move |erased| {
            drop(erasure_guard);
            erased.map(|erased| ErasureResult { calls: erased.calls.max(evicted), ..erased })
        });
        Box::pin(combined)
    }

    /// Returns the prompt of a call, if the call has one.
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

/// Returns the call without the metadata beyond [`MAX_METADATA`].
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
        total = call.metadata.len(),
        "call context truncated: too much metadata"
    );
    let mut call = Call::clone(call);
    call.metadata.truncate(kept);
    Arc::new(call)
}
