//! What is remembered of calls: platforms say who calls whom once, and ask for a
//! call's prompt by its name alone. In the store, so that it outlives a restart,
//! and in front of it in memory, as every event of a call asks for it.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use super::erase::Erasures;
use crate::config::CallsConfig;
use crate::event::Call;
use crate::platform::PLATFORMS;
use crate::store::erase::{CallName, Erased};
use crate::store::{CallDocument, Pending, Store, StoreError, from_now};

/// Memory for calls, in bytes, before the store has to be asked.
const MEMORY: u64 = 64 << 20;

/// What an entry takes beside its texts, roughly; and one of its values.
const OVERHEAD: usize = 512;
const VALUE_OVERHEAD: usize = 48;

/// Metadata that is remembered of a call, in bytes: it is kept with every event.
/// Dialplans send some hundred.
const MAX_METADATA: usize = 32 << 10;

/// A call as it was told at first.
pub(super) struct Remembered {
    call: Arc<Call>,
    prompt: Option<Arc<str>>,
    /// Whether that was at its beginning, where platforms tell all.
    at_start: bool,
    /// The call as JSON, made when it is first needed.
    json: OnceLock<Arc<str>>,
}

/// What is remembered of a call, good until the next erasure begins.
pub(super) struct AtHand {
    pub(super) call: Arc<Remembered>,
    /// So many erasures had begun when it was looked up.
    pub(super) since: u64,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Document<'a> {
    call: Cow<'a, Call>,
    prompt: Option<Arc<str>>,
}

impl Remembered {
    pub(super) fn new(call: Arc<Call>, prompt: Option<Arc<str>>) -> Self {
        Self { call, prompt, at_start: true, json: OnceLock::new() }
    }

    /// A call that was seen first in the middle of it, by an event that may not tell all.
    fn seen(call: Arc<Call>) -> Self {
        Self { at_start: false, ..Self::new(call, None) }
    }

    /// What a later event says of its call, with what is remembered of it.
    pub(super) fn of(&self, told: &Arc<Call>) -> Arc<Call> {
        if !self.at_start && !told.says_nothing() {
            return within_bounds(told);
        }
        let Call { agent, platform, .. } = &**told;
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
        OVERHEAD + 2 * texts + self.prompt.as_ref().map_or(0, |prompt| prompt.len())
    }
}

/// See the [module](self).
pub(super) struct CallMemory {
    store: Arc<dyn Store>,
    config: CallsConfig,
    recent: Cache<String, Arc<Remembered>>,
    pub(super) erasures: Arc<Erasures>,
}

impl CallMemory {
    pub(super) fn new(store: Arc<dyn Store>, config: CallsConfig) -> Self {
        let weigh = |key: &String, it: &Arc<Remembered>| {
            u32::try_from(key.len() + it.size()).unwrap_or(u32::MAX)
        };
        let recent = Cache::builder()
            .max_capacity(MEMORY)
            .weigher(weigh)
            .time_to_idle(config.max_age.max(Duration::from_secs(1)))
            // A new call is worth more than one that was looked up often.
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .build();
        Self { store, config, recent, erasures: Arc::default() }
    }

    /// Remembers a call; and the document to be kept, to remember it by.
    pub(super) fn remember(
        &self,
        call: &Arc<Call>,
        prompt: Option<Arc<str>>,
    ) -> (Arc<Remembered>, Option<CallDocument>) {
        let key = key(call.platform.family, &call.id);
        let call = within_bounds(call);
        let document = Document { call: Cow::Borrowed(&call), prompt: prompt.clone() };
        let document = serde_json::to_string(&document).ok().map(|document| CallDocument {
            key: key.as_str().into(),
            document: document.into(),
            until: from_now(self.config.max_age),
        });
        let known = Arc::new(Remembered::new(call, prompt));
        self.recent.insert(key, Arc::clone(&known));
        (known, document)
    }

    /// A call is over, and will be forgotten. `is_known`: it is at hand.
    pub(super) async fn ended(&self, call: &Call, is_known: bool) {
        let key = key(call.platform.family, &call.id);
        // Of most calls nothing was written, if nobody observes them.
        let known = is_known || self.look_up(key.clone()).await.is_ok_and(|found| found.is_some());
        if known {
            drop(self.store.expire(key, from_now(self.config.keep)));
        }
    }

    /// What is remembered of a call, if it is at hand.
    pub(super) fn recent(&self, call: &Call) -> Option<AtHand> {
        let since = self.erasures.begun();
        let call = self.recent.get(&key(call.platform.family, &call.id))?;
        Some(AtHand { call, since })
    }

    /// What is remembered of a call that is not at hand; if nothing is, what the event
    /// itself says.
    ///
    /// # Errors
    ///
    /// When the store cannot be asked.
    pub(super) async fn recall(&self, call: &Arc<Call>) -> Result<AtHand, StoreError> {
        let key = key(call.platform.family, &call.id);
        loop {
            let since = self.erasures.begun();
            let is_erased = self.erasures.is_under_way(call);
            // Of a call that is being erased, the store may still tell everything.
            let found = if is_erased { None } else { self.look_up(key.clone()).await? };
            let Some(_in_order) = self.erasures.in_order_since(since) else { continue };
            let known = found.unwrap_or_else(|| Arc::new(Remembered::seen(within_bounds(call))));
            // Unless it was decided meanwhile, which tells more.
            let call = self.recent.entry(key).or_insert(known).into_value();
            return Ok(AtHand { call, since });
        }
    }

    /// Of a call of which nothing can be found out now: what an event says itself.
    pub(super) fn nothing(&self, told: &Arc<Call>) -> AtHand {
        let since = self.erasures.begun();
        AtHand { call: Arc::new(Remembered::seen(within_bounds(told))), since }
    }

    /// Erases a call but for plugins' values, as far as it came before. To be awaited
    /// to its end.
    pub(super) fn erase(&self, call: &CallName) -> Pending<Erased> {
        let families = match call.family() {
            Some(family) => vec![family],
            None => PLATFORMS.iter().map(|platform| platform.family).collect(),
        };
        let begin = || {
            let remove = |family| self.recent.remove(&key(family, call.id()));
            let known = families.into_iter().filter_map(remove).count() as u64;
            (known, self.store.erase(call.clone()))
        };
        let ((known, erased), under_way) = self.erasures.begin(call, begin);
        // Of some calls nothing was kept, as nobody wanted to be told.
        let all = erased.map(move |erased| {
            drop(under_way);
            erased.map(|erased| Erased { calls: erased.calls.max(known), ..erased })
        });
        Box::pin(all)
    }

    /// The prompt of a call, if it has one.
    pub(super) async fn prompt(
        &self,
        family: &str,
        call: &str,
    ) -> Result<Option<Arc<str>>, StoreError> {
        let key = key(family, call);
        let known = match self.recent.get(&key) {
            Some(known) => Some(known),
            None => self.look_up(key).await?,
        };
        Ok(known.and_then(|known| known.prompt.clone()))
    }

    async fn look_up(&self, key: String) -> Result<Option<Arc<Remembered>>, StoreError> {
        let Some(document) = self.store.recall(key).await? else { return Ok(None) };
        let read = serde_json::from_str::<Document<'_>>(&document).ok();
        Ok(read.map(|Document { call, prompt }| {
            Arc::new(Remembered::new(Arc::new(call.into_owned()), prompt))
        }))
    }
}

/// A call without the metadata that is too much to be told with every event.
fn within_bounds(call: &Arc<Call>) -> Arc<Call> {
    let mut room = MAX_METADATA;
    let kept = call.metadata.iter().take_while(|(name, value)| {
        let size = VALUE_OVERHEAD + name.len() + value.get().len();
        let fits = size <= room;
        room = room.saturating_sub(size);
        fits
    });
    let kept = kept.count();
    if kept == call.metadata.len() {
        return Arc::clone(call);
    }
    tracing::warn!(
        call = call.id.as_str(),
        kept,
        of = call.metadata.len(),
        "a call has more metadata than is remembered"
    );
    let mut call = Call::clone(call);
    call.metadata.truncate(kept);
    Arc::new(call)
}

fn key(family: &str, call: &str) -> String {
    format!("{family}/{call}")
}
