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
use wasmtime_wasi::I32Exit;

use super::error::PluginError;
use super::limits::{HOST_CALL_DATA, MAX_HANDLES};
use super::state::State;
use super::turn::Turn;
use super::{Hook, Shared, backtrace};
use crate::capability::log::quote;
use crate::engine::{Engine, Permit, Purpose, Queue, TICK};

/// Of a guest's own error, what is kept, in bytes.
pub(super) const MAX_ERROR: usize = 1024;

/// What a guest has to compute with where its instructions are counted: its bounds
/// are others.
const FUEL: u64 = u64::MAX;

/// A guest's place in the engine: everything that one call of it takes.
pub(super) struct Run {
    pub(super) store: Store<State>,
    bounds: Bounds,
}

impl Run {
    /// Waits for leave to run, and makes the store.
    pub(super) async fn enter(
        shared: &Arc<Shared>,
        engine: &Engine,
        call: &str,
        allowed: &Allowed,
    ) -> Result<Self, PluginError> {
        let mut bounds = Bounds::new(shared, engine, allowed).await?;
        if let Some(recorder) = &shared.recorder {
            recorder.begin();
        }
        let store = store(shared, engine, call, allowed.hook.queue(), &mut bounds);
        Ok(Self { store, bounds })
    }

    /// Makes the instance.
    pub(super) async fn instance(
        store: &mut Store<State>,
        component: &InstancePre<State>,
    ) -> wasmtime::Result<Instance> {
        let instance = component.instantiate_async(&mut *store).await?;
        if let Some(recorder) = &store.data().plugin.recorder {
            let pool = store.engine().pooling_allocator_metrics();
            recorder.instantiated(pool.map(|pool| pool.core_instances()));
        }
        Ok(instance)
    }

    /// What the guest's work is to be watched with, and when its time is up.
    pub(super) fn clock(&self) -> (Arc<Turn>, Instant) {
        (Arc::clone(&self.store.data().turn), self.bounds.until)
    }

    /// What the guest's work came to.
    pub(super) fn outcome<T>(
        &mut self,
        done: Result<wasmtime::Result<T>, Elapsed>,
    ) -> Result<T, PluginError> {
        if let Some(recorder) = &self.store.data().plugin.recorder {
            // What a loop has used since its beginning is written down when it ends.
            let ended = matches!(done, Ok(Ok(_)));
            let left = self.store.get_fuel().ok().filter(|_| ended);
            recorder.ended(left.map(|left| FUEL - left), self.store.data().meter.taken());
        }
        match done {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(explain(&error, self.store.data_mut(), self.bounds.time)),
            Err(_) => Err(PluginError::Timeout(self.bounds.time)),
        }
    }
}

/// What a call of a guest may take.
pub(super) struct Allowed {
    /// What it is called by.
    pub(super) hook: Hook,
    /// Of the guest's own.
    pub(super) timeout: Duration,
    /// To wait for a place in the pool.
    pub(super) room_until: Instant,
    /// For all of it.
    pub(super) deadline: Instant,
}

/// Leave to run, and for how long.
struct Bounds {
    until: Instant,
    time: Duration,
    /// Taken beforehand by a guest that is expected to be slow.
    turn: Option<Permit>,
    _slot: OwnedSemaphorePermit,
}

impl Bounds {
    /// Waits for leave to run. The plugin's own time starts when it has it.
    async fn new(shared: &Shared, engine: &Engine, allowed: &Allowed) -> Result<Self, PluginError> {
        let Allowed { hook, timeout, room_until, deadline } = *allowed;
        let queue = hook.queue();
        let left = |now| timeout.min(deadline.saturating_duration_since(now));
        let now = Instant::now();
        let mut turn = None;
        if shared.pace(queue).is_slow(now) {
            // Before the slot, so that a queue of slow guests leaves the pool to
            // the quick ones.
            let waited = timeout_at(now + left(now), engine.turn(queue)).await;
            turn = waited.map_err(|_| PluginError::Busy)?;
        }
        let slot = match engine.try_slot() {
            Some(slot) => slot,
            None => {
                // Whoever has the slots may need the turn to come to an end.
                turn = None;
                engine.slot(room_until).await.ok_or(PluginError::Busy)?
            }
        };
        let now = Instant::now();
        let time = left(now);
        if time.is_zero() {
            return Err(PluginError::Busy);
        }
        Ok(Self { until: now + time, time, turn, _slot: slot })
    }
}

fn store(
    shared: &Arc<Shared>,
    engine: &Engine,
    call: &str,
    queue: Queue,
    bounds: &mut Bounds,
) -> Store<State> {
    let turn = Turn::new(queue, bounds.turn.take());
    let state = State::new(Arc::clone(shared), call, turn, bounds.until);
    let mut store = Store::new(engine.wasm(), state);
    store.limiter(|state| &mut state.meter);
    store.set_hostcall_fuel(HOST_CALL_DATA);
    store.set_max_component_handles(MAX_HANDLES);
    if engine.purpose() == Purpose::Inspect
        && let Err(error) = store.set_fuel(FUEL)
    {
        tracing::debug!(%error, "instructions cannot be counted");
    }
    // Most calls never see a tick.
    store.set_epoch_deadline(1);
    let engine = engine.clone();
    let until = bounds.until;
    store.epoch_deadline_callback(move |context| Ok(on_tick(context, &engine, until)));
    store
}

/// A guest has computed for a tick: it gives the thread back, ends if its time
/// is up, and goes on when it has a turn.
fn on_tick(context: StoreContextMut<'_, State>, engine: &Engine, until: Instant) -> UpdateDeadline {
    let now = Instant::now();
    if now >= until {
        return UpdateDeadline::Interrupt;
    }
    let state = context.data();
    // The tick came early in the guest's slice, or while it waited for the host.
    if state.turn.computed(now) < TICK {
        return UpdateDeadline::Continue(1);
    }
    state.plugin.pace(state.turn.queue()).overran(now);
    let (turn, engine) = (Arc::clone(&state.turn), engine.clone());
    UpdateDeadline::YieldCustom(1, Box::pin(async move { turn.renew(&engine, now).await }))
}

/// What an error of the engine means.
fn explain(error: &wasmtime::Error, state: &mut State, time: Duration) -> PluginError {
    let complained = state.log_output();
    state.log.remember(&complained);
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    if let (Some(recorder), Some(backtrace)) = (&state.plugin.recorder, backtrace) {
        recorder.trapped(backtrace::frames(backtrace));
    }
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) {
        return PluginError::Timeout(time);
    }
    if state.meter.refused() {
        return PluginError::Memory { limit: state.plugin.limits.memory };
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return PluginError::Busy;
    }
    let mut message = match (trap, error.downcast_ref::<I32Exit>()) {
        (Some(trap), _) => trap.to_string(),
        (_, Some(exit)) => format!("it ended itself with exit code {}", exit.0),
        _ => error.root_cause().to_string(),
    };
    // The type is private to wasmtime; a test holds the text.
    if message.contains("fuel allocated for hostcalls") {
        return PluginError::TooMuchData { limit: HOST_CALL_DATA };
    }
    if let Some(place) = backtrace.and_then(backtrace::place) {
        message = format!("{message}, in {place}");
    }
    PluginError::Trap {
        message: quote(&message, MAX_ERROR),
        said: state.log.last_error().map(str::to_owned),
    }
}
