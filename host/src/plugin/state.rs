//! What a store holds for one call, and the contract's imports on top of it.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::Shared;
use super::bindings::plugboard::plugin::{config, http, kv, log, metrics, types};
use super::limits::{MAX_HANDLES, Meter};
use super::record::{Asking, Channel, HostCall, Refusal};
use super::turn::Turn;
use super::words;
use crate::capability::http::{self as outbound, HttpError};
use crate::capability::kv::{KvError, ttl};
use crate::capability::log::{Level, Log, MAX_MESSAGE, quote};
use crate::capability::metrics::MetricsError;
use crate::capability::stdio::Captured;
use crate::store::{KvAnswer, KvCommand};

/// Most bytes of randomness that a guest gets at once.
const MAX_RANDOM: u64 = 64 * 1024;

/// One call's share of the host. It is dropped with the store.
pub(super) struct State {
    pub(super) plugin: Arc<Shared>,
    pub(super) meter: Meter,
    pub(super) log: Log,
    pub(super) turn: Arc<Turn>,
    /// When its time is up.
    until: Instant,
    /// Capabilities of which a refusal was told: once for each call will do.
    told: Vec<&'static str>,
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
    pub(super) fn new(plugin: Arc<Shared>, call: &str, turn: Turn, until: Instant) -> Self {
        let turn = Arc::new(turn);
        let log = Log::new(Arc::clone(&plugin.name), call.to_owned());
        let meter = Meter::new(&plugin.limits);
        Self { plugin, meter, log, turn, until, told: Vec::new(), wasi: None }
    }

    /// Counts that the guest did not get what it wanted, and tells of it if that was
    /// refused, and not only went wrong.
    fn refused(
        &mut self,
        capability: &'static str,
        error: &'static str,
        refused: bool,
        why: &dyn Display,
    ) {
        self.plugin.stats.refused(capability, error);
        let why = quote(&why.to_string(), MAX_MESSAGE);
        let (plugin, call) = (&*self.plugin.name, self.log.call());
        if !refused {
            tracing::debug!(plugin, call, capability, error, why, "it went wrong for a plugin");
        } else if !self.told.contains(&capability) {
            tracing::warn!(plugin, call, capability, error, why, "refused to a plugin");
            self.told.push(capability);
        }
    }

    /// Moves what the guest printed to its log. What it wrote to standard error.
    pub(super) fn log_output(&mut self) -> String {
        let Some(wasi) = &self.wasi else { return String::new() };
        let (printed, complained) = (wasi.stdout.take(), wasi.stderr.take());
        let written =
            [(Level::Info, Channel::Stdout, &printed), (Level::Warn, Channel::Stderr, &complained)];
        for (level, from, text) in written {
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                self.say(level, from, line);
            }
        }
        complained
    }

    fn say(&mut self, level: Level, from: Channel, line: &str) {
        self.log.write(level, line);
        if let Some(recorder) = &self.plugin.recorder {
            recorder.said(level, from, line);
        }
    }

    /// Has recorded, if anything is, that the guest calls the host.
    fn asks(&self, call: impl FnOnce() -> HostCall) -> Option<Asking> {
        self.plugin.recorder.as_ref().map(|recorder| recorder.asked(call()))
    }

    /// Has recorded what came of it.
    fn gets(&self, asking: Option<Asking>, answer: impl FnOnce() -> Result<String, Refusal>) {
        if let (Some(recorder), Some(asking)) = (&self.plugin.recorder, asking) {
            recorder.answered(&asking, answer());
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
    kv::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    http::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    metrics::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
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
        self.say(level, Channel::Log, &message);
    }
}

impl config::Host for State {
    fn get(&mut self, key: String) -> Option<String> {
        let asking = self.asks(|| words::setting(&key));
        let value = self.plugin.settings.config.get(&key).cloned();
        self.gets(asking, || Ok(words::length(value.as_ref().map(String::len))));
        value
    }
}

impl State {
    async fn kv(&mut self, key: String, command: KvCommand) -> Result<KvAnswer, kv::Error> {
        let values = self.plugin.kv.clone();
        let asking = self.asks(|| words::kv(&key, &command));
        let result = values.run(key, command).await;
        self.gets(asking, || words::kv_answer(&result));
        result.map_err(|error| {
            let refused = !matches!(error, KvError::Unavailable(_) | KvError::NotANumber);
            self.refused("kv", error.label(), refused, &error);
            match error {
                KvError::NotGranted => kv::Error::NotGranted,
                KvError::TooLarge(why) => kv::Error::TooLarge(why),
                KvError::Quota(why) => kv::Error::Quota(why),
                KvError::NotANumber => kv::Error::NotANumber,
                KvError::Unavailable(why) => kv::Error::Unavailable(why),
            }
        })
    }
}

impl kv::Host for State {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, kv::Error> {
        Ok(match self.kv(key, KvCommand::Get).await? {
            KvAnswer::Value(value) => value,
            _ => None,
        })
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        milliseconds: Option<u64>,
    ) -> Result<(), kv::Error> {
        let command = KvCommand::Set { value, ttl: ttl(milliseconds) };
        self.kv(key, command).await.map(|_| ())
    }

    async fn delete(&mut self, key: String) -> Result<bool, kv::Error> {
        Ok(self.kv(key, KvCommand::Delete).await? == KvAnswer::Flag(true))
    }

    async fn increment(
        &mut self,
        key: String,
        by: i64,
        milliseconds: Option<u64>,
    ) -> Result<i64, kv::Error> {
        let command = KvCommand::Increment { by, ttl: ttl(milliseconds) };
        match self.kv(key, command).await? {
            KvAnswer::Number(sum) => Ok(sum),
            _ => Err(kv::Error::NotANumber),
        }
    }

    async fn compare_and_swap(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        milliseconds: Option<u64>,
    ) -> Result<bool, kv::Error> {
        let command = KvCommand::Swap { expected, value, ttl: ttl(milliseconds) };
        Ok(self.kv(key, command).await? == KvAnswer::Flag(true))
    }
}

/// Of what is left of a guest's time, what it keeps to say something about a
/// response that does not come.
const LAST_WORD: Duration = Duration::from_millis(10);

impl http::Host for State {
    async fn send(&mut self, request: http::Request) -> Result<http::Response, http::Error> {
        let plugin = Arc::clone(&self.plugin);
        let asking = self.asks(|| words::request(&request));
        let result = match &plugin.http {
            None => Err(HttpError::NotGranted(
                "no host is granted; the operator can set `grants.http = [\"host:port\"]` in the \
                 plugin's settings"
                    .to_owned(),
            )),
            Some(client) => {
                let left = self.until.saturating_duration_since(Instant::now());
                let left = left.saturating_sub(LAST_WORD.max(left / 10));
                let http::Request { method, url, headers, body, timeout } = request;
                let timeout = timeout.map(Duration::from_millis);
                let request = outbound::Request { method, url, headers, body, timeout };
                client.send(request, left).await
            }
        };
        self.gets(asking, || words::response(&result));
        match result {
            Ok(outbound::Response { status, headers, body }) => {
                Ok(http::Response { status, headers, body })
            }
            Err(error) => {
                self.refused("http", error.label(), error.is_refusal(), &error);
                Err(match error {
                    HttpError::NotGranted(why) => http::Error::NotGranted(why),
                    HttpError::AddressRefused(why) => http::Error::AddressRefused(why),
                    HttpError::InvalidRequest(why) => http::Error::InvalidRequest(why),
                    HttpError::TooLarge(why) => http::Error::TooLarge(why),
                    HttpError::Timeout => http::Error::Timeout,
                    HttpError::TooMany => http::Error::TooMany,
                    HttpError::Failed(why) => http::Error::Failed(why),
                })
            }
        }
    }
}

impl State {
    fn counted(
        &mut self,
        asking: Option<Asking>,
        result: Result<(), MetricsError>,
    ) -> Result<(), metrics::Error> {
        self.gets(asking, || words::counted(&result));
        result.map_err(|error| {
            self.refused("metrics", error.label(), true, &error);
            match error {
                MetricsError::NotGranted => metrics::Error::NotGranted,
                MetricsError::Invalid(why) => metrics::Error::Invalid(why),
                MetricsError::TooMany => metrics::Error::TooMany,
            }
        })
    }
}

impl metrics::Host for State {
    fn count(
        &mut self,
        name: String,
        labels: Vec<(String, String)>,
        by: u64,
    ) -> Result<(), metrics::Error> {
        let figures = self.plugin.figures.clone();
        let asking = self.asks(|| words::figure("metrics.count", &name, &labels, &by));
        let result = figures.granted().and_then(|figures| figures.count(name, labels, by));
        self.counted(asking, result)
    }

    fn observe(
        &mut self,
        name: String,
        labels: Vec<(String, String)>,
        value: f64,
    ) -> Result<(), metrics::Error> {
        let figures = self.plugin.figures.clone();
        let asking = self.asks(|| words::figure("metrics.observe", &name, &labels, &value));
        let result = figures.granted().and_then(|figures| figures.observe(name, labels, value));
        self.counted(asking, result)
    }
}

impl types::Host for State {}
