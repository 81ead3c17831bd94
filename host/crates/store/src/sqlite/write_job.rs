//! The jobs of the writer thread.

use rusqlite::Connection;

use super::writer_state::WriterState;
use crate::StoreError;

/// The connection and the state that a job uses.
pub(super) struct WriteContext<'a> {
    pub(super) db: &'a Connection,
    pub(super) state: &'a mut WriterState,
}

/// A job that the writer thread runs in a transaction.
pub(super) trait WriteJob: Send {
    fn run(&mut self, work: &mut WriteContext<'_>) -> rusqlite::Result<()>;
    /// Restores the state after a failed transaction, whether the job ran in it or not.
    fn roll_back(&mut self, _: &mut WriterState) {}
    /// Returns whether the job frees space. Such a job must not fail with others that need
    /// space.
    fn frees_space(&self) -> bool {
        false
    }
    /// Returns the memory while the job is queued, in bytes, if it can be large.
    fn size(&self) -> usize {
        0
    }
    /// Returns whether no caller repeats the job. Such a job may use the whole queue.
    fn is_deferred(&self) -> bool {
        false
    }
    fn complete(self: Box<Self>, outcome: Result<(), StoreError>);
}
