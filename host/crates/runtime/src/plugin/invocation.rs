//! Invocation: runs one call of one hook in a new instance with limits.
//!
//! Three mechanisms limit its time. The epoch interrupts a guest that computes. A timeout of
//! the whole call ends a guest that waits in a host function. Host functions that wait have
//! their own timeouts. Dropping the future is safe at any point, because it drops the store,
//! the instance and the permits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{
    PoolConcurrencyLimitError, Store, StoreContextMut, Trap, UpdateDeadline, WasmBacktrace,
};

use super::backtrace;
use super::context::PluginContext;
use super::contract::Hook;
use super::cpu_permit::CpuScheduler;
use super::error::{CallError, EngineCondition, EngineError};
use super::guest_state::GuestState;
use super::limits::{MAX_HANDLES, MAX_HOST_CALL_DATA};
use crate::engine::{CpuPermit, Engine, Priority, Purpose, TICK};

/// Fuel of a guest whose instructions are counted. The time limits end the guest first.
const FUEL: u64 = u64::MAX;

/// Store of one call, and the permits that the call holds.
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
            // wasmtime stores the fuel used in a loop only when the loop ends.
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

/// Limits of one call.
pub(super) struct InvocationLimits {
    /// Hook that is called.
    pub(super) hook: Hook,
    /// Time limit of the guest, from the moment it has an instance.
    pub(super) timeout: Duration,
    /// End of the wait for an instance.
    pub(super) acquire_deadline: Instant,
    /// End of the whole call.
    pub(super) deadline: Instant,
}

/// Permits of one call, and its time limit.
struct InstanceLease {
    deadline: Instant,
    timeout: Duration,
    /// Acquired before the start if the plugin is CPU-bound.
    cpu_permit: Option<CpuPermit>,
    _instance_permit: OwnedSemaphorePermit,
}

impl InstanceLease {
    /// Waits for the permits. The guest's timeout starts when it has them.
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
            // Acquired before the slot, so that waiting CPU-bound guests do not occupy the pool.
            let cpu_result = timeout_at(now + remaining(now), engine.acquire_cpu(priority)).await;
            cpu_permit = cpu_result.map_err(|_| CallError::Busy)?;
        }
        let instance_permit = match engine.try_acquire_instance() {
            Some(permit) => permit,
            None => {
                // Released, because a guest that has a slot may need the permit to finish.
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
        tracing::debug!(%error, "cannot count instructions");
    }
    // Most calls end before the first tick.
    store.set_epoch_deadline(1);
    let engine = engine.clone();
    let deadline = lease.deadline;
    store.epoch_deadline_callback(move |context| Ok(on_tick(context, &engine, deadline)));
    store
}

/// Epoch callback: ends a guest whose deadline has passed, and lets one that has
/// computed for a tick yield until it has a CPU permit.
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
    // The guest has computed for less than a tick: it started late or waited for the host.
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
        last_message: state.log.last_error().map(str::to_owned),
    }
}
