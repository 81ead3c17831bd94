//! Setting a plugin aside that keeps failing: its failures cost every call their
//! time, and what it would say is known.
//!
//! Closed, it runs. When it has failed [`BreakerConfig::failures`] times within
//! [`BreakerConfig::window`], and no less often than it succeeded, it is open:
//! not run at all. (The second condition is there because a caller can make a
//! plugin fail who chooses the right caller ID, and must not take it away from the
//! others; a verdict that the cache had is a success. It does not help where he is
//! the only caller.) After [`BreakerConfig::pause`] one call tries it again, and
//! closes or opens it. A new version of the plugin has a new breaker.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::time::Instant;

use crate::config::BreakerConfig;

/// The breaker of one version of a plugin.
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    calls: AtomicU64,
    // What `state` says, for those who need not lock.
    closed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// The last failures, and how many calls there had been before each.
    Closed(VecDeque<(Instant, u64)>),
    Open {
        until: Instant,
    },
    Trial,
}

/// What the operator sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It runs.
    Closed,
    /// It is set aside.
    Open,
    /// One call tries it, or the next one will.
    HalfOpen,
}

/// Leave to run a plugin. Dropped without a word (the call was cancelled), it
/// changes nothing.
#[must_use]
pub struct Leave<'a> {
    breaker: &'a Breaker,
    trial: bool,
}

impl Breaker {
    /// The breaker of a plugin that was just loaded.
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            calls: AtomicU64::new(0),
            closed: AtomicBool::new(true),
            state: Mutex::new(State::Closed(VecDeque::new())),
        }
    }

    /// Counts a call that was answered without running the plugin, by what it said
    /// before.
    pub fn answered(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    /// Whether the plugin runs as if there were no breaker.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Asks whether the plugin may run now. None: it is set aside.
    pub fn admit(&self, now: Instant) -> Option<Leave<'_>> {
        if self.closed.load(Relaxed) {
            return Some(Leave { breaker: self, trial: false });
        }
        let mut state = self.state();
        let trial = match *state {
            State::Closed(_) => false,
            State::Open { until } if now >= until => true,
            State::Open { .. } | State::Trial => return None,
        };
        if trial {
            *state = State::Trial;
        }
        Some(Leave { breaker: self, trial })
    }

    /// What [`Breaker::admit`] would say, without taking the trial.
    pub fn condition(&self, now: Instant) -> Condition {
        if self.closed.load(Relaxed) {
            return Condition::Closed;
        }
        match *self.state() {
            State::Closed(_) => Condition::Closed,
            State::Open { until } if now < until => Condition::Open,
            State::Open { .. } | State::Trial => Condition::HalfOpen,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave<'_> {
    /// The plugin did its work.
    pub fn succeeded(mut self) {
        self.breaker.calls.fetch_add(1, Relaxed);
        if self.trial {
            self.trial = false;
            let mut state = self.breaker.state();
            *state = State::Closed(VecDeque::new());
            // While nobody else can change the state.
            self.breaker.closed.store(true, Relaxed);
        }
    }

    /// The plugin failed by its own fault. Whether it is set aside now.
    pub fn failed(mut self, now: Instant) -> bool {
        let breaker = self.breaker;
        let config = &breaker.config;
        let calls = breaker.calls.fetch_add(1, Relaxed);
        let mut state = breaker.state();
        let opens = match &mut *state {
            State::Closed(_) if config.failures == 0 => false,
            State::Closed(failures) => {
                let is_old = |at: &Instant| now.saturating_duration_since(*at) > config.window;
                while failures.front().is_some_and(|(at, _)| is_old(at)) {
                    failures.pop_front();
                }
                failures.push_back((now, calls));
                if failures.len() > config.failures as usize {
                    failures.pop_front();
                }
                failures.len() == config.failures as usize
                    && failures.front().is_some_and(|(_, before)| {
                        calls.saturating_sub(*before) < 2 * u64::from(config.failures)
                    })
            }
            State::Trial => self.trial,
            State::Open { .. } => false,
        };
        self.trial = false;
        if opens {
            *state = State::Open { until: now + config.pause };
            breaker.closed.store(false, Relaxed);
        }
        opens
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.trial {
            // Cancelled, or no fault of the plugin's: the next call tries.
            *self.breaker.state() = State::Open { until: Instant::now() };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(BreakerConfig { failures: 3, window: 10 * SECOND, pause: 5 * SECOND })
    }

    fn fail(breaker: &Breaker, at: Instant) -> bool {
        breaker.admit(at).unwrap().failed(at)
    }

    #[test]
    fn it_opens_after_some_failures_and_closes_after_a_success() {
        let (breaker, start) = (breaker(), Instant::now());
        assert!(!fail(&breaker, start));
        assert!(!fail(&breaker, start));
        assert_eq!(breaker.condition(start), Condition::Closed);
        assert!(fail(&breaker, start));
        assert_eq!(breaker.condition(start), Condition::Open);
        assert!(breaker.admit(start + 4 * SECOND).is_none());
        // One call tries, others do without.
        let later = start + 5 * SECOND;
        assert_eq!(breaker.condition(later), Condition::HalfOpen);
        let trial = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_none());
        assert!(trial.failed(later));
        assert!(breaker.admit(later + 4 * SECOND).is_none());
        breaker.admit(later + 5 * SECOND).unwrap().succeeded();
        assert_eq!(breaker.condition(later), Condition::Closed);
        assert!(!fail(&breaker, later + 5 * SECOND));
    }

    #[test]
    fn failures_that_are_far_apart_or_among_many_successes_do_not_open_it() {
        let (breaker, start) = (breaker(), Instant::now());
        for nth in 0..10 {
            assert!(!fail(&breaker, start + nth * 6 * SECOND));
        }
        let later = start + 100 * SECOND;
        for _ in 0..10 {
            assert!(!fail(&breaker, later));
            for _ in 0..4 {
                breaker.admit(later).unwrap().succeeded();
            }
        }
    }

    #[test]
    fn a_trial_that_is_cancelled_leaves_it_to_the_next() {
        let breaker = breaker();
        let start = Instant::now() - 6 * SECOND;
        for _ in 0..3 {
            fail(&breaker, start);
        }
        let now = Instant::now();
        drop(breaker.admit(now).unwrap());
        assert_eq!(breaker.condition(Instant::now()), Condition::HalfOpen);
        assert!(breaker.admit(Instant::now()).is_some());
    }
}
