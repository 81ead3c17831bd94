//! Playing many calls: how many at the same time, how fast, and for how long.

use std::io;
use std::num::NonZeroU32;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::plan::{Call, Script};
use super::sender::Sender;
use super::witness::Witness;

/// How much is played, and how fast.
pub struct Load {
    /// Calls altogether.
    pub calls: u64,
    /// Calls that begin in a second, if the concurrency allows it.
    pub rate: Option<f64>,
    /// Calls at the same time, at most.
    pub concurrency: NonZeroU32,
    /// From an event's end to the call's next.
    pub pace: Duration,
    /// What the run may take.
    pub time: Duration,
}

/// Why a run ended.
#[derive(Debug)]
pub enum Ending {
    /// All calls were played.
    Complete,
    /// Somebody wanted it.
    Interrupted,
    /// It took too long.
    TimeUp,
    /// At the very start there was no connection, for this reason.
    Absent(String),
    /// An acknowledged event could not be recorded.
    Unrecorded(io::Error),
}

/// A run: whoever plays a call takes the next number.
pub struct Run {
    /// What is played.
    pub script: Script,
    /// How fast.
    pub load: Load,
    /// To whom.
    pub sender: Sender,
    /// Who watches.
    pub witness: Witness,
    taken: AtomicU64,
}

impl Run {
    /// A run before its first call.
    pub fn new(script: Script, load: Load, sender: Sender, witness: Witness) -> Self {
        Self { script, load, sender, witness, taken: AtomicU64::new(0) }
    }

    /// Plays, until all is done or the run must end. Events that are on their way
    /// then are left alone.
    pub async fn play(self: &Arc<Self>, stop: impl Future<Output = ()>) -> Ending {
        let start = Instant::now();
        let mut players = JoinSet::new();
        let wanted = u64::from(self.load.concurrency.get()).min(self.load.calls);
        for _ in 0..wanted {
            let run = Arc::clone(self);
            players.spawn(async move { run.play_calls(start).await });
        }
        let all = async {
            while let Some(player) = players.join_next().await {
                match player {
                    Ok(Ok(())) => {}
                    Ok(Err(ending)) => return ending,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => resume_unwind(panic),
                        Err(_) => return Ending::Interrupted,
                    },
                }
            }
            Ending::Complete
        };
        let ending = tokio::select! {
            ending = all => ending,
            () = stop => Ending::Interrupted,
            () = sleep(self.load.time) => Ending::TimeUp,
        };
        // From here on the figures do not change.
        players.shutdown().await;
        ending
    }

    async fn play_calls(&self, start: Instant) -> Result<(), Ending> {
        loop {
            let before = self.taken.fetch_add(1, Relaxed);
            if before >= self.load.calls {
                return Ok(());
            }
            if let Some(rate) = self.load.rate {
                // By the clock and not after the last one: a pause is made up for.
                let after = Duration::try_from_secs_f64(before as f64 / rate);
                match after.ok().and_then(|after| start.checked_add(after)) {
                    Some(turn) => sleep_until(turn).await,
                    None => return Ok(()),
                }
            }
            self.play_call(before + 1).await?;
        }
    }

    async fn play_call(&self, number: u64) -> Result<(), Ending> {
        // Random whatever the seed: a second run's calls are others.
        let mut call = Call::new(&self.script, number, Uuid::new_v4());
        while let Some(event) = call.next(Timestamp::now()) {
            self.witness.sending();
            let sent = self.sender.send(&event.body).await;
            // No await between the answer and the record: what was acknowledged
            // is recorded even if the run is stopped now.
            self.witness.settle(call.uuid(), &event, &sent)?;
            if !call.is_over() && !self.load.pace.is_zero() {
                sleep(self.load.pace).await;
            }
        }
        self.witness.finished();
        Ok(())
    }
}
