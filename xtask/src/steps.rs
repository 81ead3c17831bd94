//! Named steps of a task, and the time that each takes.

use std::time::{Duration, Instant};

use crate::command::{Result, say};

/// Steps of a task so far.
#[derive(Default)]
pub struct Steps(Vec<(&'static str, Duration)>);

impl Steps {
    /// Runs a step, and prints its name first.
    pub fn run<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        say(&format!("\n== {name}"));
        let begin = Instant::now();
        let result = step();
        self.0.push((name, begin.elapsed()));
        result
    }

    /// Prints the time of every step.
    pub fn report(&self) {
        say("\nTime by step:");
        for (name, time) in &self.0 {
            say(&format!("{:>6} s  {name}", time.as_secs()));
        }
        let total: Duration = self.0.iter().map(|(_, time)| *time).sum();
        say(&format!("{:>6} s  total", total.as_secs()));
    }
}
