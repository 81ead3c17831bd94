//! What a store holds for one call, and the contract's imports on top of it.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::Shared;
use super::bindings::plugboard::plugin::{config, log};
use super::limits::{MAX_HANDLES, Meter};
use super::turn::Turn;
use crate::capability::log::{Level, Log};
use crate::capability::stdio::Captured;

/// Most bytes of randomness that a guest gets at once.
const MAX_RANDOM: u64 = 64 * 1024;

/// One call's share of the host. It is dropped with the store.
pub(super) struct State {
    pub(super) plugin: Arc<Shared>,
    pub(super) meter: Meter,
    pub(super) log: Log,
    pub(super) turn: Arc<Turn>,
    // Made when the guest first uses WASI: most calls of most guests never do,
    // and the clocks and generators in it take longer than such a call.
    wasi: Option<Box<Wasi>>,
}

struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    stdout: Captured,
    stderr: Captured,
}

impl State {
    pub(super) fn new(
        plugin: Arc<Shared>,
        call: &str,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let turn = Arc::new(Turn::new(permit));
        let log = Log::new(Arc::clone(&plugin.name), call.to_owned());
        let meter = Meter::new(&plugin.limits);
        Self { plugin, meter, log, turn, wasi: None }
    }

    /// Moves what the guest printed to its log.
    pub(super) fn log_output(&mut self) {
        let Some(wasi) = &self.wasi else { return };
        for line in wasi.stdout.take().lines() {
            self.log.write(Level::Info, line);
        }
        for line in wasi.stderr.take().lines() {
            self.log.write(Level::Warn, line);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // A call that was cancelled has had no other chance.
        self.log_output();
    }
}

impl Wasi {
    /// A world with clocks, random numbers and nothing else in it.
    fn new() -> Self {
        let (stdout, stderr) = (Captured::default(), Captured::default());
        let ctx = WasiCtxBuilder::new()
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            .max_random_size(MAX_RANDOM)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self { ctx, table, stdout, stderr }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(|| Box::new(Wasi::new()));
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
    }
}

/// Everything that a guest may import.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    log::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    config::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

// === The contract's imports ===

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) {
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.log.write(level, &message);
    }
}

impl config::Host for State {
    fn get(&mut self, key: String) -> Option<String> {
        self.plugin.settings.config.get(&key).cloned()
    }
}
