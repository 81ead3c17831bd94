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

use crate::cache::append_vary_key;
use plugboard_core::decision::CachePolicy;
use plugboard_core::vary::Vary;
use plugboard_platform::ToolUse;
use plugboard_runtime::plugin::Plugin;

/// Memory for results, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Bytes that an entry takes beside its texts, roughly.
const ENTRY_OVERHEAD: usize = 256;

/// See [`tool_key`].
type ToolCacheKey = Box<[u8]>;

/// The results of all plugins.
pub(super) struct ToolCache {
    entries: Cache<ToolCacheKey, Arc<ToolCacheEntry>>,
    max_ttl: Duration,
}

struct ToolCacheEntry {
    content: ToolCacheContent,
    expires_at: Instant,
}

enum ToolCacheContent {
    /// Which fields of the call the result depends on.
    VaryFields(Vary),
    /// The result.
    Value(Arc<RawValue>),
}

impl ToolCache {
    pub(super) fn new(max_ttl: Duration) -> Self {
        let weigh = |key: &ToolCacheKey, entry: &Arc<ToolCacheEntry>| {
            let size = match &entry.content {
                ToolCacheContent::VaryFields(fields) => fields.names().map(str::len).sum(),
                ToolCacheContent::Value(value) => value.get().len(),
            };
            u32::try_from(ENTRY_OVERHEAD + key.len() + size).unwrap_or(u32::MAX)
        };
        let entries = Cache::builder()
            .max_capacity(MAX_BYTES)
            .weigher(weigh)
            .expire_after(ToolCacheExpiry)
            .build();
        Self { entries, max_ttl }
    }

    /// Drops all of them.
    pub(super) fn clear(&self) {
        self.entries.invalidate_all();
    }

    /// A result of this plugin for these arguments in this call, if there is one.
    pub(super) fn get(&self, plugin: &Plugin, tool_use: &ToolUse) -> Option<Arc<RawValue>> {
        let key = tool_key(plugin, tool_use);
        let entry = self.get_fresh(&key)?;
        let ToolCacheContent::VaryFields(fields) = &entry.content else { return None };
        match &self.get_fresh(&append_vary_key(key, fields, &tool_use.call)?)?.content {
            ToolCacheContent::Value(value) => Some(Arc::clone(value)),
            ToolCacheContent::VaryFields(_) => None,
        }
    }

    /// Keeps a result, for as long as its plugin and the operator give leave to.
    pub(super) fn insert(
        &self,
        plugin: &Plugin,
        tool_use: &ToolUse,
        value: &Arc<RawValue>,
        reuse: &CachePolicy,
    ) {
        let expires_at = Instant::now() + reuse.ttl.min(self.max_ttl);
        let Some(fields) = Vary::try_new(reuse) else { return };
        let key = tool_key(plugin, tool_use);
        let Some(result_key) = append_vary_key(key.clone(), &fields, &tool_use.call) else {
            return;
        };
        let value = ToolCacheContent::Value(Arc::clone(value));
        self.entries
            .insert(result_key.into(), Arc::new(ToolCacheEntry { content: value, expires_at }));
        self.entries.insert(
            key.into(),
            Arc::new(ToolCacheEntry { content: ToolCacheContent::VaryFields(fields), expires_at }),
        );
    }

    fn get_fresh(&self, key: &[u8]) -> Option<Arc<ToolCacheEntry>> {
        self.entries.get(key).filter(|entry| Instant::now() < entry.expires_at)
    }
}

/// A plugin's version, its tool, and the arguments as they were sent.
fn tool_key(plugin: &Plugin, tool_use: &ToolUse) -> Vec<u8> {
    let mut key = Vec::with_capacity(128);
    key.extend_from_slice(&plugin.id.to_ne_bytes());
    // Its length is fixed, so that whatever follows cannot be taken for a part of it.
    let mut hash = Sha256::new();
    hash.update((tool_use.name.len() as u64).to_ne_bytes());
    hash.update(&tool_use.name);
    hash.update(tool_use.arguments.get());
    key.extend_from_slice(&hash.finalize());
    key
}

/// Entries go when their time is over.
struct ToolCacheExpiry;

impl Expiry<ToolCacheKey, Arc<ToolCacheEntry>> for ToolCacheExpiry {
    fn expire_after_create(
        &self,
        _: &ToolCacheKey,
        entry: &Arc<ToolCacheEntry>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(entry.expires_at.saturating_duration_since(Instant::now()))
    }

    fn expire_after_update(
        &self,
        key: &ToolCacheKey,
        entry: &Arc<ToolCacheEntry>,
        now: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, entry, now)
    }
}
