//! Tests under load. They are a separate test program that runs one test at a time,
//! because each test needs the whole machine.

mod bench;
mod overload;
mod reload_under_load;

use tokio::sync::Mutex;

/// Lock that the running test holds.
static ALONE: Mutex<()> = Mutex::const_new(());
