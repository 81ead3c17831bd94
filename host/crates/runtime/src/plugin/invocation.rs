//! One call of one hook: a fresh instance, bounded in time and in everything
//! else, dropped at the end whatever happened.
//!
//! Time has three bounds. The epoch interrupts a guest that computes; a timeout
//! around it all ends one that waits in a host function; host functions that
//! wait have bounds of their own. Dropping the future at any point is safe: the
//! store goes with it, and its slot.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{
    PoolConcurrencyLimitError, Store, StoreContextMut, Trap, UpdateDeadline, WasmBacktrace,
};

use super::cpu_permit::CpuScheduler;
use super::error::{CallError, EngineCondition, EngineError};
use super::guest_state::GuestState;
use super::limits::{MAX_HANDLES, MAX_HOST_CALL_DATA};
use super::{Hook, PluginContext, backtrace};
use crate::engine::{CpuPermit, Engine, Priority, Purpose, TICK};

/// What a guest has to compute with where its instructions are counted: its bounds
/// are others.
const FUEL: u64 = u64::MAX;

/// A store for one call, and the permits that the call holds.
pub(super) struct GuestInvocation {
    store: Store<GuestState>,
    lease: InstanceLease,
}

impl GuestInvocation {
    /// Waits for an instance permit (and for a CPU permit, if the plugin was CPU-bound
    /// lately), then creates the store.
    pub(super) async fn start(
        context: &Arc<PluginContext>,
        engine: &Engine,
        call: &str,
        limits: &InvocationLimits,
    ) -> Result<Self, CallError> {
        let mut lease = InstanceLease::acquire(context, engine, limits).await?;
        if let Some(recorder) = &context.recorder {
            recorder.begin();
        }
        let store = new_store(context, engine, call, limits.hook.priority(), &mut lease);
        Ok(Self { store, lease })
    }

    /// Creates an instance, runs `guest` with it until the deadline, and drops both.
    pub(super) async fn run<T>(
        mut self,
        instance_pre: &InstancePre<GuestState>,
        guest: impl AsyncFnOnce(&mut Store<GuestState>, &Instance) -> wasmtime::Result<T>,
    ) -> Result<T, CallError> {
        let cpu = Arc::clone(&self.store.data().cpu);
        let guest = async {
            let store = &mut self.store;
            let instance = instance_pre.instantiate_async(&mut *store).await?;
            if let Some(recorder) = &store.data().plugin.recorder {
                let pool = store.engine().pooling_allocator_metrics();
                recorder.record_instance(pool.map(|pool| pool.core_instances()));
            }
            guest(store, &instance).await
        };
        let result = timeout_at(self.lease.deadline, cpu.run(guest)).await;
        self.finish(result)
    }

    /// Records the end of the call and converts its error.
    fn finish<T>(
        &mut self,
        guest_result: Result<wasmtime::Result<T>, Elapsed>,
    ) -> Result<T, CallError> {
        if let Some(recorder) = &self.store.data().plugin.recorder {
            // What a loop has used since its beginning is written down when it ends.
            let is_complete = matches!(guest_result, Ok(Ok(_)));
            let fuel_left = self.store.get_fuel().ok().filter(|_| is_complete);
            recorder.finish(
                fuel_left.map(|fuel_left| FUEL - fuel_left),
                self.store.data().meter.peak_memory(),
            );
        }
        match guest_result {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(to_call_error(error, self.store.data_mut(), self.lease.timeout)),
            Err(_) => Err(CallError::Timeout(self.lease.timeout)),
        }
    }
}

/// What a call of a guest may take.
pub(super) struct InvocationLimits {
    /// What it is called by.
    pub(super) hook: Hook,
    /// Of the guest's own.
    pub(super) timeout: Duration,
    /// To wait for a place in the pool.
    pub(super) acquire_deadline: Instant,
    /// For all of it.
    pub(super) deadline: Instant,
}

/// Leave to run, and for how long.
struct InstanceLease {
    deadline: Instant,
    timeout: Duration,
    /// Taken beforehand by a guest that is expected to be slow.
    cpu_permit: Option<CpuPermit>,
    _instance_permit: OwnedSemaphorePermit,
}

impl InstanceLease {
    /// Waits for leave to run. The plugin's own time starts when it has it.
    async fn acquire(
        context: &PluginContext,
        engine: &Engine,
        limits: &InvocationLimits,
    ) -> Result<Self, CallError> {
        let InvocationLimits { hook, timeout, acquire_deadline, deadline } = *limits;
        let priority = hook.priority();
        let remaining = |now| timeout.min(deadline.saturating_duration_since(now));
        let now = Instant::now();
        let mut cpu_permit = None;
        if context.overrun_tracker(priority).is_cpu_bound(now) {
            // Before the slot, so that a queue of slow guests leaves the pool to
            // the quick ones.
            let cpu_result = timeout_at(now + remaining(now), engine.acquire_cpu(priority)).await;
            cpu_permit = cpu_result.map_err(|_| CallError::Busy)?;
        }
        let instance_permit = match engine.try_acquire_instance() {
            Some(permit) => permit,
            None => {
                // Whoever has the slots may need the turn to come to an end.
                cpu_permit = None;
                engine.acquire_instance(acquire_deadline).await.ok_or(CallError::Busy)?
            }
        };
        let now = Instant::now();
        let time_limit = remaining(now);
        if time_limit.is_zero() {
            return Err(CallError::Busy);
        }
        Ok(Self {
            deadline: now + time_limit,
            timeout: time_limit,
            cpu_permit,
            _instance_permit: instance_permit,
        })
    }
}

fn new_store(
    context: &Arc<PluginContext>,
    engine: &Engine,
    call: &str,
    priority: Priority,
    lease: &mut InstanceLease,
) -> Store<GuestState> {
    let cpu = CpuScheduler::new(priority, lease.cpu_permit.take());
    let state = GuestState::new(Arc::clone(context), call, cpu, lease.deadline);
    let mut store = Store::new(engine.wasm(), state);
    store.limiter(|state| &mut state.meter);
    store.set_hostcall_fuel(MAX_HOST_CALL_DATA);
    store.set_max_component_handles(MAX_HANDLES);
    if engine.purpose() == Purpose::Inspect
        && let Err(error) = store.set_fuel(FUEL)
    {
        tracing::debug!(%error, "instructions cannot be counted");
    }
    // Most calls never see a tick.
    store.set_epoch_deadline(1);
    let engine = engine.clone();
    let deadline = lease.deadline;
    store.epoch_deadline_callback(move |context| Ok(on_tick(context, &engine, deadline)));
    store
}

/// A guest has computed for a tick: it gives the thread back, ends if its time
/// is up, and goes on when it has a turn.
fn on_tick(
    context: StoreContextMut<'_, GuestState>,
    engine: &Engine,
    deadline: Instant,
) -> UpdateDeadline {
    let now = Instant::now();
    if now >= deadline {
        return UpdateDeadline::Interrupt;
    }
    let state = context.data();
    // The tick came early in the guest's slice, or while it waited for the host.
    if state.cpu.cpu_time(now) < TICK {
        return UpdateDeadline::Continue(1);
    }
    state.plugin.overrun_tracker(state.cpu.priority()).record_overrun(now);
    let (cpu, engine) = (Arc::clone(&state.cpu), engine.clone());
    UpdateDeadline::YieldCustom(1, Box::pin(async move { cpu.yield_cpu(&engine, now).await }))
}

/// Classifies the error that ended a call, and records its backtrace.
fn to_call_error(error: wasmtime::Error, state: &mut GuestState, timeout: Duration) -> CallError {
    let stderr = state.log_output();
    state.log.record_stderr(&stderr);
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    if let (Some(recorder), Some(backtrace)) = (&state.plugin.recorder, backtrace) {
        recorder.record_backtrace(backtrace::frames(backtrace));
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return CallError::Timeout(timeout);
    }
    if state.meter.is_limit_exceeded() {
        return CallError::MemoryLimitExceeded { limit: state.plugin.limits.memory };
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return CallError::Busy;
    }
    if EngineCondition::of(&error) == Some(EngineCondition::HostCallFuelExhausted) {
        return CallError::HostCallDataExceeded { limit: MAX_HOST_CALL_DATA };
    }
    CallError::Trap {
        source: EngineError::from_trap(error),
        said: state.log.last_error().map(str::to_owned),
    }
}
