//! Results of tools that their plugins gave leave to give again.
//!
//! As in HTTP, what a result depends on is known only when there is one: under the
//! arguments stands which fields the last result depended on, and under these fields'
//! values the result itself.

use std::sync::Arc;
use std::time::Duration;

use moka::Expiry;
use moka::sync::Cache;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::cache::fields_key;
use crate::decision::Reuse;
use crate::platform::ToolUse;
use crate::plugin::Plugin;
use crate::plugin::habits::Vary;

/// Memory for results, in bytes.
const MEMORY: u64 = 16 << 20;

/// Bytes that an entry takes beside its texts, roughly.
const OVERHEAD: usize = 256;

/// See [`key`].
type Key = Box<[u8]>;

/// The results of all plugins.
pub(super) struct ToolResults {
    kept: Cache<Key, Arc<Entry>>,
    max_ttl: Duration,
}

struct Entry {
    what: What,
    until: Instant,
}

enum What {
    /// Which fields of the call the result depends on.
    Fields(Vary),
    /// The result.
    Value(Arc<RawValue>),
}

impl ToolResults {
    pub(super) fn new(max_ttl: Duration) -> Self {
        let weigh = |key: &Key, entry: &Arc<Entry>| {
            let size = match &entry.what {
                What::Fields(fields) => fields.names().map(str::len).sum(),
                What::Value(value) => value.get().len(),
            };
            u32::try_from(OVERHEAD + key.len() + size).unwrap_or(u32::MAX)
        };
        let kept =
            Cache::builder().max_capacity(MEMORY).weigher(weigh).expire_after(AtItsTime).build();
        Self { kept, max_ttl }
    }

    /// Drops all of them.
    pub(super) fn clear(&self) {
        self.kept.invalidate_all();
    }

    /// A result of this plugin for these arguments in this call, if there is one.
    pub(super) fn get(&self, plugin: &Plugin, used: &ToolUse) -> Option<Arc<RawValue>> {
        let key = key(plugin, used);
        let entry = self.valid(&key)?;
        let What::Fields(fields) = &entry.what else { return None };
        match &self.valid(&fields_key(key, fields, &used.call)?)?.what {
            What::Value(value) => Some(Arc::clone(value)),
            What::Fields(_) => None,
        }
    }

    /// Keeps a result, for as long as its plugin and the operator give leave to.
    pub(super) fn keep(
        &self,
        plugin: &Plugin,
        used: &ToolUse,
        value: &Arc<RawValue>,
        reuse: &Reuse,
    ) {
        let until = Instant::now() + reuse.ttl.min(self.max_ttl);
        let Some(fields) = Vary::of(reuse) else { return };
        let key = key(plugin, used);
        let Some(whole) = fields_key(key.clone(), &fields, &used.call) else { return };
        let value = What::Value(Arc::clone(value));
        self.kept.insert(whole.into(), Arc::new(Entry { what: value, until }));
        self.kept.insert(key.into(), Arc::new(Entry { what: What::Fields(fields), until }));
    }

    fn valid(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.kept.get(key).filter(|entry| Instant::now() < entry.until)
    }
}

/// A plugin's version, its tool, and the arguments as they were sent.
fn key(plugin: &Plugin, used: &ToolUse) -> Vec<u8> {
    let mut key = Vec::with_capacity(128);
    key.extend_from_slice(&plugin.id.to_ne_bytes());
    // Its length is fixed, so that whatever follows cannot be taken for a part of it.
    let mut hash = Sha256::new();
    hash.update((used.name.len() as u64).to_ne_bytes());
    hash.update(&used.name);
    hash.update(used.arguments.get());
    key.extend_from_slice(&hash.finalize());
    key
}

/// Entries go when their time is over.
struct AtItsTime;

impl Expiry<Key, Arc<Entry>> for AtItsTime {
    fn expire_after_create(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(entry.until.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(
        &self,
        key: &Key,
        entry: &Arc<Entry>,
        now: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, entry, now)
    }
}
