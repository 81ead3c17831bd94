//! The tool cache: a vary cache of tool results, by tool and arguments.
//!
//! There is no single-flight, because a tool may do more than read, so equal uses run
//! separately.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::vary::{CacheRequest, VaryCache};
use plugboard_core::decision::CachePolicy;
use plugboard_platform::ToolUse;
use plugboard_runtime::plugin::Plugin;

/// Maximum memory of cached results, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Cached results of all plugins.
pub(super) struct ToolCache(VaryCache<Arc<RawValue>>);

impl ToolCache {
    /// Creates an empty cache whose entries expire after `max_ttl` at most.
    pub(super) fn new(max_ttl: Duration) -> Self {
        Self(VaryCache::new(MAX_BYTES, max_ttl, |value| value.get().len()))
    }

    /// Removes the results of all tools.
    pub(super) fn clear(&self) {
        self.0.clear();
    }

    /// Returns a result of this plugin for these arguments in this call, if one is
    /// cached.
    pub(super) fn get(&self, plugin: &Arc<Plugin>, tool_use: &ToolUse) -> Option<Arc<RawValue>> {
        with_request(plugin, tool_use, |request| self.0.get(request)).flatten()
    }

    /// Caches a result for as long as its plugin and the operator allow.
    pub(super) fn insert(
        &self,
        plugin: &Arc<Plugin>,
        tool_use: &ToolUse,
        value: &Arc<RawValue>,
        policy: &CachePolicy,
    ) {
        with_request(plugin, tool_use, |request| {
            let sets = self.0.vary_sets(request);
            self.0.insert(&sets, request, Some(policy), || Arc::clone(value));
        });
    }
}

/// Calls `work` with the cache request of a tool use. Returns `None` if the plugin does not
/// have the tool.
fn with_request<T>(
    plugin: &Arc<Plugin>,
    tool_use: &ToolUse,
    work: impl FnOnce(&CacheRequest<'_>) -> T,
) -> Option<T> {
    let index = plugin.tools().iter().position(|tool| **tool == *tool_use.name)?;
    // The digest covers the arguments as they were sent.
    let digest = Sha256::digest(tool_use.arguments.get());
    let part = u32::try_from(index).ok()?;
    Some(work(&CacheRequest { plugin, part, digest: &digest, call: &tool_use.call }))
}
