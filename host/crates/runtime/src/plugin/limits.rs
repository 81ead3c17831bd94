//! Resource limits of one instance: memory, tables, handles, and data in host calls.

use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::engine::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES};
use crate::plugin::settings;
use plugboard_config::PluginLimits;

/// Maximum number of bytes that a guest may pass at once, to the host or as a decision. The
/// longest valid decision is a prompt of several KiB.
pub const MAX_HOST_CALL_DATA: usize = 1 << 20;

/// Maximum number of component-model handles (streams, pollables) of a guest.
pub const MAX_HANDLES: usize = 1_000;

/// Resource limits of one plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Time limit of one decision or transfer, in wall-clock time.
    pub timeout: Duration,
    /// Time limit of one event.
    pub event_timeout: Duration,
    /// Time limit of one tool call.
    pub tool_timeout: Duration,
    /// Linear memory of an instance, all memories together, in bytes.
    pub memory: usize,
}

impl ResourceLimits {
    /// Takes each limit from the settings, else from the server's defaults.
    pub fn new(settings: &settings::Limits, defaults: &PluginLimits) -> Self {
        Self {
            timeout: settings.timeout.unwrap_or(defaults.timeout),
            event_timeout: settings.event_timeout.unwrap_or(defaults.event_timeout),
            tool_timeout: settings.tool_timeout.unwrap_or(defaults.tool_timeout),
            memory: settings.memory.unwrap_or(defaults.memory),
        }
    }
}

/// Measures the memory of one instance, and enforces its limits.
#[derive(Debug)]
pub struct ResourceMeter {
    max_memory: usize,
    peak_memory: usize,
    limit_exceeded: bool,
}

impl ResourceMeter {
    /// Creates a meter for one instance.
    pub fn new(limits: &ResourceLimits) -> Self {
        Self { max_memory: limits.memory, peak_memory: 0, limit_exceeded: false }
    }

    /// Returns the peak memory of the instance, in bytes.
    pub fn peak_memory(&self) -> usize {
        self.peak_memory
    }

    /// Returns whether the instance has requested more memory or table elements than allowed.
    pub fn is_limit_exceeded(&self) -> bool {
        self.limit_exceeded
    }
}

impl ResourceLimiter for ResourceMeter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.peak_memory.saturating_add(desired.saturating_sub(current));
        if total > self.max_memory {
            self.limit_exceeded = true;
            return Ok(false);
        }
        self.peak_memory = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = desired <= MAX_TABLE_ELEMENTS;
        self.limit_exceeded |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        MAX_TABLES as usize
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_limit_covers_all_memories() {
        let time = Duration::from_millis(1);
        let limits =
            ResourceLimits { timeout: time, event_timeout: time, tool_timeout: time, memory: 100 };
        let mut meter = ResourceMeter::new(&limits);
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(!meter.memory_growing(0, 60, None).unwrap());
        assert!(meter.is_limit_exceeded());
        assert!(meter.memory_growing(60, 100, None).unwrap());
    }
}
