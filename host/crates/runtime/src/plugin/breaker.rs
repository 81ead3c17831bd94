//! Circuit breaker: stops calling a plugin that keeps failing, because each failure costs a
//! call its time.
//!
//! * **Closed**: calls run the plugin. The breaker opens after
//!   [`CircuitBreakerConfig::failure_threshold`] failures within
//!   [`CircuitBreakerConfig::window`], if the plugin has not succeeded more often than it
//!   failed since the first of them.
//! * **Open**: calls skip the plugin for [`CircuitBreakerConfig::open_duration`].
//! * **Half-open**: one call, the probe, runs the plugin, and closes or opens the breaker.
//!
//! A caller can cause failures, for example with a special caller ID. Because the breaker
//! compares failures with successes, that caller cannot disable the plugin for all others; a
//! verdict from the cache counts as a success. The comparison has no effect while that
//! caller is the only one.
//!
//! A new version of a plugin starts with a closed breaker.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use plugboard_config::CircuitBreakerConfig;

/// Circuit breaker of one hook of one version of a plugin.
#[derive(Debug)]
pub struct CircuitBreaker {
    config: CircuitBreakerConfig,
    call_count: AtomicU64,
    // Copy of `state`, read without the lock.
    is_closed: AtomicBool,
    state: Mutex<BreakerState>,
}

#[derive(Debug)]
enum BreakerState {
    /// Time of each of the last failures, with the number of calls before it.
    Closed(VecDeque<(Instant, u64)>),
    Open {
        until: Instant,
    },
    Probing,
}

/// State of a circuit breaker, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// Calls run the plugin.
    Closed,
    /// Calls skip the plugin.
    Open,
    /// A probe runs, or the next call will be one.
    HalfOpen,
}

/// Permit to run a plugin. Dropping it without a result, as a cancelled call does,
/// changes nothing.
#[must_use]
pub struct BreakerPermit<'a> {
    breaker: &'a CircuitBreaker,
    is_probe: bool,
}

impl CircuitBreaker {
    /// Creates a closed circuit breaker.
    pub fn new(config: CircuitBreakerConfig) -> Self {
        Self {
            config,
            call_count: AtomicU64::new(0),
            is_closed: AtomicBool::new(true),
            state: Mutex::new(BreakerState::Closed(VecDeque::new())),
        }
    }

    /// Counts a call that the cache answered with an earlier reply of the plugin.
    pub fn record_success(&self) {
        self.call_count.fetch_add(1, Relaxed);
    }

    /// Returns whether the breaker is closed.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }

    /// Returns a permit to run the plugin now. `None`: the breaker is open.
    pub fn try_acquire(&self, now: Instant) -> Option<BreakerPermit<'_>> {
        if self.is_closed.load(Relaxed) {
            return Some(BreakerPermit { breaker: self, is_probe: false });
        }
        let mut state = self.state.lock();
        let is_probe = match *state {
            BreakerState::Closed(_) => false,
            BreakerState::Open { until } if now >= until => true,
            BreakerState::Open { .. } | BreakerState::Probing => return None,
        };
        if is_probe {
            *state = BreakerState::Probing;
        }
        Some(BreakerPermit { breaker: self, is_probe })
    }

    /// Returns the current state. Unlike [`CircuitBreaker::try_acquire`], does not start a
    /// probe.
    pub fn circuit_state(&self, now: Instant) -> CircuitState {
        if self.is_closed.load(Relaxed) {
            return CircuitState::Closed;
        }
        match *self.state.lock() {
            BreakerState::Closed(_) => CircuitState::Closed,
            BreakerState::Open { until } if now < until => CircuitState::Open,
            BreakerState::Open { .. } | BreakerState::Probing => CircuitState::HalfOpen,
        }
    }
}

impl BreakerPermit<'_> {
    /// Records a success. A successful probe closes the breaker.
    pub fn record_success(mut self) {
        self.breaker.call_count.fetch_add(1, Relaxed);
        if self.is_probe {
            self.is_probe = false;
            let mut state = self.breaker.state.lock();
            *state = BreakerState::Closed(VecDeque::new());
            // Stored while the lock is held, so that the copy agrees with the state.
            self.breaker.is_closed.store(true, Relaxed);
        }
    }

    /// Records a failure that is the plugin's fault. Returns whether it opened the
    /// breaker.
    pub fn record_failure(mut self, now: Instant) -> bool {
        let breaker = self.breaker;
        let config = &breaker.config;
        let threshold = config.failure_threshold;
        let call_count = breaker.call_count.fetch_add(1, Relaxed);
        let mut state = breaker.state.lock();
        let should_open = match &mut *state {
            BreakerState::Closed(_) if threshold == 0 => false,
            BreakerState::Closed(failures) => {
                let is_expired = |at: &Instant| now.saturating_duration_since(*at) > config.window;
                while failures.front().is_some_and(|(at, _)| is_expired(at)) {
                    failures.pop_front();
                }
                failures.push_back((now, call_count));
                if failures.len() > threshold as usize {
                    failures.pop_front();
                }
                failures.len() == threshold as usize
                    && failures.front().is_some_and(|(_, count_before)| {
                        call_count.saturating_sub(*count_before) < 2 * u64::from(threshold)
                    })
            }
            BreakerState::Probing => self.is_probe,
            BreakerState::Open { .. } => false,
        };
        self.is_probe = false;
        if should_open {
            *state = BreakerState::Open { until: now + config.open_duration };
            breaker.is_closed.store(false, Relaxed);
        }
        should_open
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            // Cancelled, or not the plugin's fault: the next call is the probe.
            *self.breaker.state.lock() = BreakerState::Open { until: Instant::now() };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> CircuitBreaker {
        CircuitBreaker::new(CircuitBreakerConfig {
            failure_threshold: 3,
            window: 10 * SECOND,
            open_duration: 5 * SECOND,
        })
    }

    fn record_failure(breaker: &CircuitBreaker, at: Instant) -> bool {
        breaker.try_acquire(at).unwrap().record_failure(at)
    }

    #[test]
    fn breaker_opens_after_failures_and_closes_after_success() {
        let (breaker, start) = (breaker(), Instant::now());
        assert!(!record_failure(&breaker, start));
        assert!(!record_failure(&breaker, start));
        assert_eq!(breaker.circuit_state(start), CircuitState::Closed);
        assert!(record_failure(&breaker, start));
        assert_eq!(breaker.circuit_state(start), CircuitState::Open);
        assert!(breaker.try_acquire(start + 4 * SECOND).is_none());
        // One call probes, the others are short-circuited.
        let later = start + 5 * SECOND;
        assert_eq!(breaker.circuit_state(later), CircuitState::HalfOpen);
        let probe = breaker.try_acquire(later).unwrap();
        assert!(breaker.try_acquire(later).is_none());
        assert!(probe.record_failure(later));
        assert!(breaker.try_acquire(later + 4 * SECOND).is_none());
        breaker.try_acquire(later + 5 * SECOND).unwrap().record_success();
        assert_eq!(breaker.circuit_state(later), CircuitState::Closed);
        assert!(!record_failure(&breaker, later + 5 * SECOND));
    }

    #[test]
    fn sparse_failures_do_not_open_breaker() {
        let (breaker, start) = (breaker(), Instant::now());
        for nth in 0..10 {
            assert!(!record_failure(&breaker, start + nth * 6 * SECOND));
        }
        let later = start + 100 * SECOND;
        for _ in 0..10 {
            assert!(!record_failure(&breaker, later));
            for _ in 0..4 {
                breaker.try_acquire(later).unwrap().record_success();
            }
        }
    }

    #[test]
    fn cancelled_probe_is_retried_by_next_call() {
        let breaker = breaker();
        let start = Instant::now() - 6 * SECOND;
        for _ in 0..3 {
            record_failure(&breaker, start);
        }
        let now = Instant::now();
        drop(breaker.try_acquire(now).unwrap());
        assert_eq!(breaker.circuit_state(Instant::now()), CircuitState::HalfOpen);
        assert!(breaker.try_acquire(Instant::now()).is_some());
    }
}
