//! What holds under load. A program of its own, in which one test runs at a time:
//! each needs the machine for itself.

mod bench;
mod overload;
mod reload_under_load;

use tokio::sync::Mutex;

/// Held by the test that runs.
static ALONE: Mutex<()> = Mutex::const_new(());
