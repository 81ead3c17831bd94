//! The deliveries in flight of one consumer. Each delivery runs in its own task.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::window::PendingDelivery;
use plugboard_runtime::plugin::Plugin;

/// A delivery to a version of the plugin.
#[derive(Clone)]
pub(super) struct Delivery {
    pub(super) plugin: Arc<Plugin>,
    pub(super) pending: PendingDelivery,
    pub(super) started_at: Instant,
}

/// The step of a delivery that a task runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Calls the plugin's hook, and records a failure.
    Attempt,
    /// Records the failure of an attempt that panicked.
    RecordPanic,
}

/// The reason why an event must be delivered again.
pub(super) enum RetryReason {
    /// The attempt failed, and counts.
    Failed,
    /// There was no free instance or no plugin; the attempt does not count.
    Unavailable,
    /// The plugin's circuit breaker is open.
    CircuitOpen,
}

/// The result of a finished task.
pub(super) enum StepResult {
    /// The task returned a result.
    Done(Result<(), RetryReason>),
    /// The task panicked without a result.
    Panicked,
}

/// The running tasks, see the [module](self).
#[derive(Default)]
pub(super) struct InFlight {
    tasks: JoinSet<Result<(), RetryReason>>,
    /// The delivery and step of each task, so that they are known also when the task panics.
    started: HashMap<Id, (Delivery, Step)>,
}

impl InFlight {
    /// Returns the number of deliveries.
    pub(super) fn len(&self) -> usize {
        self.started.len()
    }

    /// Starts a task for a step of a delivery.
    pub(super) fn spawn(
        &mut self,
        delivery: Delivery,
        step: Step,
        task: impl Future<Output = Result<(), RetryReason>> + Send + 'static,
    ) {
        let id = self.tasks.spawn(task).id();
        self.started.insert(id, (delivery, step));
    }

    /// Waits for the end of a task. Returns `None` if no task runs. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<(Delivery, Step, StepResult)> {
        loop {
            let (id, result) = match self.tasks.join_next_with_id().await? {
                Ok((id, result)) => (id, StepResult::Done(result)),
                Err(error) => (error.id(), StepResult::Panicked),
            };
            if let Some((delivery, step)) = self.started.remove(&id) {
                return Some((delivery, step, result));
            }
        }
    }

    /// Ends all tasks at their next await point.
    pub(super) async fn abort(&mut self) {
        self.tasks.shutdown().await;
        self.started.clear();
    }
}
