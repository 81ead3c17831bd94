//! WebAssembly engine: configuration, instance pool, epoch ticker, and the permits that
//! order the calls in front of it.
//!
//! One engine serves the whole process. Each call takes a fresh instance from a pool
//! whose slots are reserved at start. [`Engine::acquire_instance`] waits for a free slot,
//! because an exhausted pool is an error in wasmtime, not a queue.
//!
//! Guests run on the runtime's worker threads: a decision takes microseconds, and moving
//! it to another thread would cost more. [`Engine::acquire_cpu`] keeps CPU-bound guests
//! from starving the listeners: after its first [`TICK`], a guest yields and continues
//! only with a CPU permit, of which there are fewer than threads.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use plugboard_config::EngineConfig;

/// Interval at which guests are interrupted: the longest time that a guest holds a
/// thread, and the longest delay of its deadline.
pub const TICK: Duration = Duration::from_millis(5);

/// Longest time that a guest keeps its CPU permit while others wait for one. It is short, so
/// that an endless guest delays few others. It is long enough that some of many concurrent
/// guests finish in time; with a shorter slice all of them could miss their deadlines.
pub const TIME_SLICE: Duration = Duration::from_millis(50);

/// Maximum number of core instances of one component instance. A Rust component has three
/// (module, shim, fixup); components of componentize-py and componentize-js have more. The
/// pool reserves this number for each slot, so that instantiation in a free slot succeeds.
pub const MAX_CORE_INSTANCES: u32 = 32;
/// Maximum number of tables of one component instance; see [`MAX_CORE_INSTANCES`].
pub const MAX_TABLES: u32 = 32;
/// Maximum number of memories of one component instance; see [`MAX_CORE_INSTANCES`].
pub const MAX_MEMORIES: u32 = 4;

/// Maximum number of elements of one table; componentize-py needs the most.
pub const MAX_TABLE_ELEMENTS: usize = 100_000;

/// Maximum size of an instance's metadata, in bytes; componentize-js needs the most.
const MAX_INSTANCE_SIZE: usize = 10 << 20;

/// Bytes of a slot's memory and stack that stay resident between calls. With
/// `pagemap_scan`, a reset touches only the pages that a call wrote, so a large value is
/// free; without it, a reset overwrites all of them with zeros.
const KEEP_RESIDENT_SCANNED: usize = 1 << 20;
const KEEP_RESIDENT_UNSCANNED: usize = 64 << 10;

/// Maximum number of frames of a trap's backtrace for authors. Further frames of a deep
/// recursion repeat these.
const MAX_INSPECTED_FRAMES: Option<NonZeroUsize> = NonZeroUsize::new(64);

/// Size of the guard region of a memory, in bytes, if the process cannot reserve wasmtime's
/// default of 4 GiB for each memory. The default makes bounds checks free.
const SMALL_GUARD: u64 = 64 << 10;

/// Purpose of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Serves calls: minimal overhead, none of which a guest can multiply.
    Serve {
        /// Worker threads of the async runtime.
        threads: usize,
    },
    /// Inspects a plugin for its author, one call at a time: counts instructions, and
    /// reports file and line of a trap if the guest has debug information.
    Inspect,
}

/// Source of the memory of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Slots reserved at start, with 4 GiB of address space each.
    Pool,
    /// Slots reserved at start, as large as `engine.max_memory`.
    SmallPool,
    /// Memory from the system, allocated for each call.
    OnDemand,
}

/// Engine of the process, with its permits. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

/// Priority class of a guest's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A call that is being set up.
    Decision,
    /// A tool or a transfer during a call: the caller waits in silence.
    MidCall,
    /// An event: no caller waits.
    Event,
}

impl Priority {
    /// All priority classes, highest first.
    pub const ALL: [Self; 3] = [Self::Decision, Self::MidCall, Self::Event];
}

/// Permit to use the CPU; released on drop.
pub struct CpuPermit {
    _permit: OwnedSemaphorePermit,
    /// Permit of the priority class, for those below [`Priority::Decision`].
    _class_permit: Option<OwnedSemaphorePermit>,
}

/// Statistics of the instance pool.
#[derive(Clone, Copy, Debug)]
pub struct EngineStats {
    /// Number of slots of the pool.
    pub instances: u64,
    /// Number of slots in use.
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
    /// Fails if the machine cannot run WebAssembly code, or cannot start a thread.
    pub fn start(config: &EngineConfig, purpose: Purpose) -> anyhow::Result<Self> {
        let mut errors = Vec::new();
        let (threads, candidates) = match purpose {
            Purpose::Serve { threads } => {
                (threads, &[Allocation::Pool, Allocation::SmallPool, Allocation::OnDemand][..])
            }
            // A pool costs more than it saves if calls run one at a time.
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
                errors = errors.join("; "),
                "cannot reserve the instance pool; calls will be slower (see `ulimit -v`)"
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
            // Leaves one thread for the listeners and for guests that run less than a
            // tick. With a single thread, listeners and guests alternate tick by tick.
            cpu_permits: Arc::new(Semaphore::new(threads.saturating_sub(1).max(1))),
            // Guests of these classes first acquire a permit of their class, so that each
            // class has at most half of the permits.
            mid_call_cpu_permits: Arc::new(Semaphore::new((threads.saturating_sub(1) / 2).max(1))),
            event_cpu_permits: Arc::new(Semaphore::new((threads.saturating_sub(1) / 2).max(1))),
        })))
    }

    /// Returns the engine of wasmtime.
    pub fn wasm(&self) -> &wasmtime::Engine {
        &self.0.wasm
    }

    /// Returns the purpose of this engine.
    pub fn purpose(&self) -> Purpose {
        self.0.purpose
    }

    /// Returns the source of the memory of instances.
    pub fn allocation(&self) -> Allocation {
        self.0.allocation
    }

    /// Returns the largest memory limit of a plugin, in bytes.
    pub fn max_memory(&self) -> usize {
        self.0.max_memory
    }

    /// Returns the statistics of the pool.
    pub fn stats(&self) -> EngineStats {
        let free = self.0.instance_permits.available_permits() as u64;
        let instances = u64::from(self.0.instances);
        EngineStats { instances, used: instances.saturating_sub(free) }
    }

    /// Returns the concurrency limit of a priority class: half of the pool for events, a
    /// quarter for tools and transfers, so that a quarter remains for decisions.
    pub fn concurrency_limit(&self, priority: Priority) -> usize {
        let instances = self.0.instances as usize;
        let limit = match priority {
            Priority::Decision => instances,
            Priority::MidCall => instances / 4,
            Priority::Event => instances / 2,
        };
        limit.max(1)
    }

    /// Acquires a slot of the pool, if one is free. Hold it as long as the instance.
    pub fn try_acquire_instance(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.instance_permits).try_acquire_owned().ok()
    }

    /// Waits for a slot of the pool. `None`: no slot became free before the deadline.
    pub async fn acquire_instance(&self, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.0.instance_permits).acquire_owned();
        tokio::time::timeout_at(deadline, permit).await.ok()?.ok()
    }

    /// Waits for a CPU permit, which a guest needs after its first tick.
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
        // The work of reading a guest's debug information is unbounded.
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

/// Starts the thread that advances the epoch. It ends after the last engine is dropped.
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
        let short_wait = Duration::from_millis(50);
        assert!(
            tokio::time::timeout(short_wait, engine.acquire_cpu(Priority::Event)).await.is_err()
        );
        let _calls = [
            engine.acquire_cpu(Priority::Decision).await.unwrap(),
            engine.acquire_cpu(Priority::Decision).await.unwrap(),
        ];
        drop(first);
        assert!(
            tokio::time::timeout(short_wait, engine.acquire_cpu(Priority::Event)).await.is_ok()
        );
    }
}
