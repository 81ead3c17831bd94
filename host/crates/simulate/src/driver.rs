//! The driver: plays many calls, within a concurrency, a rate and a duration.

use std::num::NonZeroU32;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::end::SimulationEnd;
use super::monitor::SimulationMonitor;
use super::scenario::{CallScript, SimulatedCall};
use super::sender::EventSender;

/// The load of a run.
pub struct LoadProfile {
    /// The number of calls.
    pub calls: u64,
    /// The number of calls that start per second, if the concurrency allows it.
    pub rate: Option<f64>,
    /// The maximum number of concurrent calls.
    pub concurrency: NonZeroU32,
    /// The pause between an event's answer and the next event of its call.
    pub event_interval: Duration,
    /// The maximum duration of the run.
    pub max_duration: Duration,
}

/// A run of the simulation. Each task that plays calls takes the next number.
pub struct Simulation {
    /// The scenario of every call.
    pub script: CallScript,
    /// The load of the run.
    pub load_profile: LoadProfile,
    /// The sender of the events.
    pub sender: EventSender,
    /// The monitor of the run.
    pub monitor: SimulationMonitor,
    calls_started: AtomicU64,
}

impl Simulation {
    /// Creates a run that has not started.
    pub fn new(
        script: CallScript,
        load: LoadProfile,
        sender: EventSender,
        witness: SimulationMonitor,
    ) -> Self {
        Self {
            script,
            load_profile: load,
            sender,
            monitor: witness,
            calls_started: AtomicU64::new(0),
        }
    }

    /// Plays until all calls are done or the run must end. Events in flight are then abandoned.
    pub async fn play(self: &Arc<Self>, stop: impl Future<Output = ()>) -> SimulationEnd {
        let start = Instant::now();
        let mut players = JoinSet::new();
        let player_count =
            u64::from(self.load_profile.concurrency.get()).min(self.load_profile.calls);
        for _ in 0..player_count {
            let run = Arc::clone(self);
            players.spawn(async move { run.play_calls(start).await });
        }
        let all_players = async {
            while let Some(player) = players.join_next().await {
                match player {
                    Ok(Ok(())) => {}
                    Ok(Err(ending)) => return ending,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => resume_unwind(panic),
                        Err(_) => return SimulationEnd::Interrupted,
                    },
                }
            }
            SimulationEnd::Complete
        };
        let ending = tokio::select! {
            ending = all_players => ending,
            () = stop => SimulationEnd::Interrupted,
            () = sleep(self.load_profile.max_duration) => SimulationEnd::TimeLimitReached,
        };
        // The statistics do not change after this.
        players.shutdown().await;
        ending
    }

    async fn play_calls(&self, start: Instant) -> Result<(), SimulationEnd> {
        loop {
            let index = self.calls_started.fetch_add(1, Relaxed);
            if index >= self.load_profile.calls {
                return Ok(());
            }
            if let Some(rate) = self.load_profile.rate {
                // The clock determines the start of a call, not the previous call, so that a
                // delay is compensated.
                let offset = Duration::try_from_secs_f64(index as f64 / rate);
                match offset.ok().and_then(|after| start.checked_add(after)) {
                    Some(start_at) => sleep_until(start_at).await,
                    None => return Ok(()),
                }
            }
            self.play_call(index + 1).await?;
        }
    }

    async fn play_call(&self, number: u64) -> Result<(), SimulationEnd> {
        // The id is random for any seed, so that a second run has other calls.
        let mut call = SimulatedCall::new(&self.script, number, Uuid::new_v4());
        while let Some(event) = call.next_event(Timestamp::now()) {
            self.monitor.record_sending();
            let delivery = self.sender.send(&event.body).await;
            // There is no await between the answer and the record, so that an acknowledged
            // event is recorded even if the run is stopped now.
            self.monitor.record_delivery(call.uuid(), &event, &delivery)?;
            if !call.is_over() && !self.load_profile.event_interval.is_zero() {
                sleep(self.load_profile.event_interval).await;
            }
        }
        self.monitor.record_call_finished();
        Ok(())
    }
}
