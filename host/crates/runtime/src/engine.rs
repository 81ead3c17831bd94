//! The WebAssembly engine: its configuration, the pool of instances, the
//! ticker that interrupts guests, and the two queues in front of it all.
//!
//! One engine serves the whole process. Every call takes a fresh instance from
//! a pool whose slots are reserved at start; [`Engine::acquire_instance`] makes calls wait
//! for a free one, because an exhausted pool is an error and not a queue.
//!
//! Guests run on the runtime's own threads, as a decision takes microseconds
//! and a hop to another thread would cost more. What keeps a guest that
//! computes for long from starving the listeners is [`Engine::acquire_cpu`]: after its
//! first [`TICK`] a guest gives the thread back and goes on only with a turn,
//! and there are fewer turns than threads.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use plugboard_config::EngineConfig;

/// How often guests are interrupted to see whether they may go on: the longest
/// that one holds a thread, and how late a deadline can strike.
pub const TICK: Duration = Duration::from_millis(5);

/// How long a guest keeps its turn while others wait for one. Short enough that
/// a guest that never ends holds up few others, long enough that those that do
/// end are not all late together.
pub const TIME_SLICE: Duration = Duration::from_millis(50);

/// What one instance of a component may have. A Rust one has three core instances
/// (module, shim, fixup), componentize-py's and -js's ones have more. The pool
/// has as many for every slot, so that whoever holds a slot finds room.
pub const MAX_CORE_INSTANCES: u32 = 32;
/// As [`MAX_CORE_INSTANCES`].
pub const MAX_TABLES: u32 = 32;
/// As [`MAX_CORE_INSTANCES`].
pub const MAX_MEMORIES: u32 = 4;

/// Elements of one table; what componentize-py needs.
pub const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Metadata of one instance in bytes; what componentize-js needs.
const MAX_INSTANCE_SIZE: usize = 10 << 20;

/// Of a slot's memory and stack, what stays resident between calls. With
/// `pagemap_scan` only the pages that a call wrote are reset, so that a large
/// share costs nothing; without it, resetting is a memset of all of it.
const KEEP_RESIDENT_SCANNED: usize = 1 << 20;
const KEEP_RESIDENT_UNSCANNED: usize = 64 << 10;

/// Frames of a trap that an author is told; the rest of a deep recursion looks like
/// these.
const MAX_INSPECTED_FRAMES: Option<NonZeroUsize> = NonZeroUsize::new(64);

/// Address space per memory when the process may not have wasmtime's default
/// of 4 GiB each, by which bounds checks cost nothing.
const SMALL_GUARD: u64 = 64 << 10;

/// What an engine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Calls: as little work as there can be, and none that a guest can make more of.
    Serve {
        /// With which the runtime polls tasks.
        threads: usize,
    },
    /// An author who tries a plugin of his own, one call at a time: instructions are
    /// counted, and a trap tells file and line, where the guest has them.
    Inspect,
}

/// How instances get their memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// From slots reserved at start, 4 GiB of address space each.
    Pool,
    /// From slots reserved at start, as large as `engine.max_memory`.
    SmallPool,
    /// From the system, for each call.
    OnDemand,
}

/// The process's engine and the queues in front of it. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

/// Whom a guest works for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Somebody who hears ringing.
    Decision,
    /// Somebody who is told to wait a moment: by a voice agent, in the middle of a call.
    MidCall,
    /// Nobody who waits.
    Event,
}

impl Priority {
    /// Every queue.
    pub const ALL: [Self; 3] = [Self::Decision, Self::MidCall, Self::Event];
}

/// A turn on the processor; given back when it is dropped.
pub struct CpuPermit {
    _permit: OwnedSemaphorePermit,
    /// Of those who wait for a turn behind calls.
    _class_permit: Option<OwnedSemaphorePermit>,
}

/// The pool's figures.
#[derive(Clone, Copy, Debug)]
pub struct EngineStats {
    /// Instances that there is room for.
    pub instances: u64,
    /// Instances in use.
    pub used: u64,
}

struct EngineInner {
    wasm: wasmtime::Engine,
    purpose: Purpose,
    allocation: Allocation,
    max_memory: usize,
    instances: u32,
    instance_permits: Arc<Semaphore>,
    cpu_permits: Arc<Semaphore>,
    mid_call_cpu_permits: Arc<Semaphore>,
    event_cpu_permits: Arc<Semaphore>,
}

impl Engine {
    /// Starts the engine and its ticker.
    ///
    /// # Errors
    ///
    /// When the machine cannot run WebAssembly code, or start a thread.
    pub fn start(config: &EngineConfig, purpose: Purpose) -> anyhow::Result<Self> {
        let mut errors = Vec::new();
        let (threads, candidates) = match purpose {
            Purpose::Serve { threads } => {
                (threads, &[Allocation::Pool, Allocation::SmallPool, Allocation::OnDemand][..])
            }
            // A pool is for those who come again.
            Purpose::Inspect => (1, &[Allocation::OnDemand][..]),
        };
        let selected = candidates.iter().find_map(|&allocation| {
            match wasmtime::Engine::new(&wasm_config(config, purpose, allocation)) {
                Ok(wasm) => Some((wasm, allocation)),
                Err(error) => {
                    errors.push(format!("{allocation:?}: {error:#}"));
                    None
                }
            }
        });
        let Some((wasm, allocation)) = selected else {
            anyhow::bail!("cannot start the WebAssembly engine: {}", errors.join("; "));
        };
        if !errors.is_empty() {
            tracing::warn!(
                ?allocation,
                refused = errors.join("; "),
                "no room for the pool of instances; calls will be slower (see `ulimit -v`)"
            );
        }
        start_ticker(&wasm)?;
        Ok(Self(Arc::new(EngineInner {
            wasm,
            purpose,
            allocation,
            max_memory: config.max_memory,
            instances: config.instances,
            instance_permits: Arc::new(Semaphore::new(config.instances as usize)),
            // One thread is always left for guests that are quick, and for the
            // listeners; on a single thread they take turns with the tick.
            cpu_permits: Arc::new(Semaphore::new(threads.saturating_sub(1).max(1))),
            // Guests that are told of events queue among themselves first, so that
            // however many there are, half of the turns at the most are theirs; and so
            // do those that work for voice agents.
            mid_call_cpu_permits: Arc::new(Semaphore::new((threads.saturating_sub(1) / 2).max(1))),
            event_cpu_permits: Arc::new(Semaphore::new((threads.saturating_sub(1) / 2).max(1))),
        })))
    }

    /// The engine proper.
    pub fn wasm(&self) -> &wasmtime::Engine {
        &self.0.wasm
    }

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.0.purpose
    }

    /// How instances get their memory here.
    pub fn allocation(&self) -> Allocation {
        self.0.allocation
    }

    /// The most memory that a plugin may be given, in bytes.
    pub fn max_memory(&self) -> usize {
        self.0.max_memory
    }

    /// How much of the pool is in use.
    pub fn stats(&self) -> EngineStats {
        let free = self.0.instance_permits.available_permits() as u64;
        let instances = u64::from(self.0.instances);
        EngineStats { instances, used: instances.saturating_sub(free) }
    }

    /// How many guests may have a place in the pool at the same time that work for
    /// these: half of it is the most for events, a quarter for voice agents, so that
    /// there is always room for calls that are being set up.
    pub fn concurrency_limit(&self, priority: Priority) -> usize {
        let instances = self.0.instances as usize;
        let limit = match priority {
            Priority::Decision => instances,
            Priority::MidCall => instances / 4,
            Priority::Event => instances / 2,
        };
        limit.max(1)
    }

    /// A place in the pool, if there is one now; hold it for as long as the
    /// instance.
    pub fn try_acquire_instance(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.instance_permits).try_acquire_owned().ok()
    }

    /// Waits for a place in the pool. None when there was none until the deadline.
    pub async fn acquire_instance(&self, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.0.instance_permits).acquire_owned();
        tokio::time::timeout_at(deadline, permit).await.ok()?.ok()
    }

    /// Waits for a turn among the guests that compute for longer than a tick.
    pub async fn acquire_cpu(&self, priority: Priority) -> Option<CpuPermit> {
        let class_semaphore = match priority {
            Priority::Decision => None,
            Priority::MidCall => Some(&self.0.mid_call_cpu_permits),
            Priority::Event => Some(&self.0.event_cpu_permits),
        };
        let class_permit = match class_semaphore {
            Some(semaphore) => Arc::clone(semaphore).acquire_owned().await.ok(),
            None => None,
        };
        let permit = Arc::clone(&self.0.cpu_permits).acquire_owned().await.ok()?;
        Some(CpuPermit { _permit: permit, _class_permit: class_permit })
    }
}

fn wasm_config(config: &EngineConfig, purpose: Purpose, allocation: Allocation) -> Config {
    let mut wasm = Config::new();
    wasm.epoch_interruption(true)
        // A shared memory would outlive the limits of an instance.
        .wasm_memory64(false);
    match purpose {
        // Reading a guest's own debug information would be work of the host's
        // that nothing bounds.
        Purpose::Serve { .. } => wasm.wasm_backtrace_details(WasmBacktraceDetails::Disable),
        Purpose::Inspect => wasm
            .consume_fuel(true)
            .wasm_backtrace_details(WasmBacktraceDetails::Enable)
            .wasm_backtrace_max_frames(MAX_INSPECTED_FRAMES),
    };
    if allocation == Allocation::OnDemand {
        return wasm;
    }
    if allocation == Allocation::SmallPool {
        wasm.memory_reservation(config.max_memory as u64).memory_guard_size(SMALL_GUARD);
    }
    let scan = PoolingAllocationConfig::is_pagemap_scan_available();
    let keep = if scan { KEEP_RESIDENT_SCANNED } else { KEEP_RESIDENT_UNSCANNED };
    let instances = config.instances;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(MAX_CORE_INSTANCES))
        .total_memories(instances.saturating_mul(MAX_MEMORIES))
        .total_tables(instances.saturating_mul(MAX_TABLES))
        .total_stacks(instances)
        .max_component_instance_size(MAX_INSTANCE_SIZE)
        .max_core_instance_size(MAX_INSTANCE_SIZE)
        .max_memories_per_module(2)
        .max_tables_per_module(2)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_memory_size(config.max_memory)
        .max_unused_warm_slots(instances)
        .linear_memory_keep_resident(keep)
        .table_keep_resident(keep)
        .async_stack_keep_resident(keep)
        .pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
    wasm.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    wasm
}

/// Lets guests see the time pass. Ends when the last engine is gone.
fn start_ticker(engine: &wasmtime::Engine) -> anyhow::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("ticker".to_owned()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn event_guests_acquire_cpu_one_at_a_time() {
        let engine =
            Engine::start(&EngineConfig::default(), Purpose::Serve { threads: 4 }).unwrap();
        let first = engine.acquire_cpu(Priority::Event).await.unwrap();
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, engine.acquire_cpu(Priority::Event)).await.is_err());
        let _calls = [
            engine.acquire_cpu(Priority::Decision).await.unwrap(),
            engine.acquire_cpu(Priority::Decision).await.unwrap(),
        ];
        drop(first);
        assert!(tokio::time::timeout(soon, engine.acquire_cpu(Priority::Event)).await.is_ok());
    }
}
