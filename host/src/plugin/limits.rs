//! What one instance may take from the host.

use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::config::PluginLimits;
use crate::engine::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES};
use crate::plugin::settings;

/// Bytes that a guest may pass at once, to the host or as a decision. The
/// longest legal decision is a prompt of some KiB.
pub const HOST_CALL_DATA: usize = 1 << 20;

/// Component-model handles (streams, pollables) that a guest may hold.
pub const MAX_HANDLES: usize = 1_000;

/// The bounds of one plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For one decision, by the clock on the wall.
    pub timeout: Duration,
    /// For one event.
    pub event_timeout: Duration,
    /// For one use of a tool.
    pub tool_timeout: Duration,
    /// Linear memory in bytes, all memories of an instance together.
    pub memory: usize,
}

impl Limits {
    /// What the settings ask for, else the server's defaults.
    pub fn new(settings: &settings::Limits, defaults: &PluginLimits) -> Self {
        Self {
            timeout: settings.timeout.unwrap_or(defaults.timeout),
            event_timeout: settings.event_timeout.unwrap_or(defaults.event_timeout),
            tool_timeout: settings.tool_timeout.unwrap_or(defaults.tool_timeout),
            memory: settings.memory.unwrap_or(defaults.memory),
        }
    }
}

/// Counts what one instance takes, and refuses what is too much.
#[derive(Debug)]
pub struct Meter {
    memory: usize,
    taken: usize,
    refused: bool,
}

impl Meter {
    /// A meter for one instance.
    pub fn new(limits: &Limits) -> Self {
        Self { memory: limits.memory, taken: 0, refused: false }
    }

    /// The most memory that the instance had, in bytes.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Whether the instance wanted more than it may have.
    pub fn refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let taken = self.taken.saturating_add(desired.saturating_sub(current));
        if taken > self.memory {
            self.refused = true;
            return Ok(false);
        }
        self.taken = taken;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = desired <= MAX_TABLE_ELEMENTS;
        self.refused |= !fits;
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
    fn all_memories_count_together() {
        let time = Duration::from_millis(1);
        let limits = Limits { timeout: time, event_timeout: time, tool_timeout: time, memory: 100 };
        let mut meter = Meter::new(&limits);
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(!meter.memory_growing(0, 60, None).unwrap());
        assert!(meter.refused());
        assert!(meter.memory_growing(60, 100, None).unwrap());
    }
}
