//! State of one call in its store, and the host functions of the contract.
//!
//! The functions of all capabilities are always linked. Without the grant they return an error
//! that is typed for the guest, counted, and logged once for each call and capability, without
//! URLs. WASI is linked as well; its context has clocks and random numbers, and nothing else.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::bindings::plugboard::plugin::{config, http, kv, log, metrics, types};
use super::context::PluginContext;
use super::cpu_permit::CpuScheduler;
use super::host_call_text;
use super::limits::{MAX_HANDLES, ResourceMeter};
use super::recorder::{HostCall, HostCallError, LogChannel, PendingHostCall};
use crate::capability::kv::{GuestKvError, ttl};
use crate::capability::log::{GuestLog, LogLevel, MAX_MESSAGE};
use crate::capability::metrics::MetricsError;
use crate::capability::stdio::CapturedOutput;
use plugboard_core::text::sanitize;
use plugboard_egress::{self as outbound, HttpError};
use plugboard_store::{KvAnswer, KvCommand};

/// Maximum number of random bytes that a guest gets in one call.
const MAX_RANDOM: u64 = 64 * 1024;

/// Host-side state of one call. It is dropped with the store.
pub(super) struct GuestState {
    pub(super) plugin: Arc<PluginContext>,
    pub(super) meter: ResourceMeter,
    pub(super) log: GuestLog,
    pub(super) cpu: Arc<CpuScheduler>,
    /// End of the call's time limit.
    deadline: Instant,
    /// Capabilities whose denial was logged; each is logged once for each call.
    logged_denials: Vec<&'static str>,
    // Created when the guest first uses WASI. Most calls never do, and creating its clocks and
    // generators takes longer than such a call.
    wasi: Option<Box<WasiState>>,
}

struct WasiState {
    ctx: WasiCtx,
    table: ResourceTable,
    stdout: CapturedOutput,
    stderr: CapturedOutput,
}

impl GuestState {
    pub(super) fn new(
        plugin: Arc<PluginContext>,
        call: &str,
        cpu: CpuScheduler,
        deadline: Instant,
    ) -> Self {
        let cpu = Arc::new(cpu);
        let log = GuestLog::new(Arc::clone(&plugin.name), call.to_owned());
        let meter = ResourceMeter::new(&plugin.limits);
        Self { plugin, meter, log, cpu, deadline, logged_denials: Vec::new(), wasi: None }
    }

    /// Counts a failed host call, and logs it. A denial is a warning, once for each
    /// capability.
    fn record_host_call_error(
        &mut self,
        capability: &'static str,
        error: &'static str,
        is_denial: bool,
        reason: &dyn Display,
    ) {
        self.plugin.stats.record_host_call_error(capability, error);
        let reason = sanitize(&reason.to_string(), MAX_MESSAGE);
        let (plugin, call) = (&*self.plugin.name, self.log.call());
        if !is_denial {
            tracing::debug!(plugin, call, capability, error, reason, "host call failed");
        } else if !self.logged_denials.contains(&capability) {
            tracing::warn!(plugin, call, capability, error, reason, "host call denied");
            self.logged_denials.push(capability);
        }
    }

    /// Moves the guest's output to its log, and returns the text of its standard error.
    pub(super) fn log_output(&mut self) -> String {
        let Some(wasi) = &self.wasi else { return String::new() };
        let (stdout, stderr) = (wasi.stdout.take(), wasi.stderr.take());
        let streams = [
            (LogLevel::Info, LogChannel::Stdout, &stdout),
            (LogLevel::Warn, LogChannel::Stderr, &stderr),
        ];
        for (level, channel, text) in streams {
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                self.log_line(level, channel, line);
            }
        }
        stderr
    }

    fn log_line(&mut self, level: LogLevel, channel: LogChannel, line: &str) {
        self.log.write(level, line);
        if let Some(recorder) = &self.plugin.recorder {
            recorder.record_line(level, channel, line);
        }
    }

    /// Records the start of a host call, if the plugin has a recorder.
    fn begin_host_call(&self, call: impl FnOnce() -> HostCall) -> Option<PendingHostCall> {
        self.plugin.recorder.as_ref().map(|recorder| recorder.begin_host_call(call()))
    }

    /// Records the result of a host call.
    fn end_host_call(
        &self,
        pending: Option<PendingHostCall>,
        answer: impl FnOnce() -> Result<String, HostCallError>,
    ) {
        if let (Some(recorder), Some(pending)) = (&self.plugin.recorder, pending) {
            recorder.end_host_call(&pending, answer());
        }
    }
}

impl Drop for GuestState {
    fn drop(&mut self) {
        // Logs the output of a cancelled call, which does not end in any other way.
        self.log_output();
    }
}

impl WasiState {
    /// Creates a WASI context with clocks and random numbers, and without other resources.
    fn new() -> Self {
        let (stdout, stderr) = (CapturedOutput::default(), CapturedOutput::default());
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

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(|| Box::new(WasiState::new()));
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
    }
}

/// Returns a linker with all functions that a guest may import.
pub(super) fn build_linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    log::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |state| state)?;
    config::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |state| state)?;
    kv::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |state| state)?;
    http::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |state| state)?;
    metrics::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |state| state)?;
    Ok(linker)
}

// Host functions: the interfaces of the contract that guests import.

impl log::Host for GuestState {
    fn write(&mut self, level: log::Level, message: String) {
        let level = match level {
            log::Level::Trace => LogLevel::Trace,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        self.log_line(level, LogChannel::Log, &message);
    }
}

impl config::Host for GuestState {
    fn get(&mut self, key: String) -> Option<String> {
        let pending = self.begin_host_call(|| host_call_text::config_call(&key));
        let value = self.plugin.settings.config.get(&key).cloned();
        self.end_host_call(pending, || {
            Ok(host_call_text::optional_size(value.as_ref().map(String::len)))
        });
        value
    }
}

impl GuestState {
    async fn kv(&mut self, key: String, command: KvCommand) -> Result<KvAnswer, kv::Error> {
        let capability = self.plugin.kv.clone();
        let pending = self.begin_host_call(|| host_call_text::kv_call(&key, &command));
        let result = capability.run(key, command).await;
        self.end_host_call(pending, || host_call_text::kv_result(&result));
        result.map_err(|error| {
            let is_denial =
                !matches!(error, GuestKvError::Unavailable(_) | GuestKvError::NotANumber);
            self.record_host_call_error("kv", error.label(), is_denial, &error);
            match error {
                GuestKvError::NotGranted => kv::Error::NotGranted,
                GuestKvError::TooLarge(why) => kv::Error::TooLarge(why),
                GuestKvError::Quota(why) => kv::Error::Quota(why),
                GuestKvError::NotANumber => kv::Error::NotANumber,
                GuestKvError::Unavailable(why) => kv::Error::Unavailable(why),
            }
        })
    }
}

impl kv::Host for GuestState {
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

/// Smallest part of the remaining time that an HTTP request may not use, so that the guest can
/// still answer after a timeout.
const DEADLINE_RESERVE: Duration = Duration::from_millis(10);

impl http::Host for GuestState {
    async fn send(&mut self, request: http::Request) -> Result<http::Response, http::Error> {
        let plugin = Arc::clone(&self.plugin);
        let pending = self.begin_host_call(|| host_call_text::http_call(&request));
        let result = match &plugin.http {
            None => Err(HttpError::NotGranted(
                "no host is granted; the operator can set `grants.http = [\"host:port\"]` in the \
                 plugin's settings"
                    .to_owned(),
            )),
            Some(client) => {
                let remaining = self.deadline.saturating_duration_since(Instant::now());
                let time_limit = remaining.saturating_sub(DEADLINE_RESERVE.max(remaining / 10));
                let http::Request { method, url, headers, body, timeout } = request;
                let timeout = timeout.map(Duration::from_millis);
                let request = outbound::HttpRequest { method, url, headers, body, timeout };
                client.send(request, time_limit).await
            }
        };
        self.end_host_call(pending, || host_call_text::http_result(&result));
        match result {
            Ok(outbound::HttpResponse { status, headers, body }) => {
                Ok(http::Response { status, headers, body })
            }
            Err(error) => {
                self.record_host_call_error("http", error.label(), error.is_refusal(), &error);
                Err(match error {
                    HttpError::NotGranted(why) => http::Error::NotGranted(why),
                    HttpError::AddressRefused(why) => http::Error::AddressRefused(why),
                    HttpError::InvalidRequest(why) => http::Error::InvalidRequest(why),
                    HttpError::TooLarge(why) => http::Error::TooLarge(why),
                    HttpError::Timeout => http::Error::Timeout,
                    HttpError::TooManyRequests => http::Error::TooMany,
                    HttpError::Failed(why) => http::Error::Failed(why),
                })
            }
        }
    }
}

impl GuestState {
    fn finish_metrics_call(
        &mut self,
        pending: Option<PendingHostCall>,
        result: Result<(), MetricsError>,
    ) -> Result<(), metrics::Error> {
        self.end_host_call(pending, || host_call_text::metrics_result(&result));
        result.map_err(|error| {
            self.record_host_call_error("metrics", error.label(), true, &error);
            match error {
                MetricsError::NotGranted => metrics::Error::NotGranted,
                MetricsError::Invalid(why) => metrics::Error::Invalid(why),
                MetricsError::TooMany => metrics::Error::TooMany,
            }
        })
    }
}

impl metrics::Host for GuestState {
    fn count(
        &mut self,
        name: String,
        labels: Vec<(String, String)>,
        by: u64,
    ) -> Result<(), metrics::Error> {
        let capability = self.plugin.metrics.clone();
        let pending = self
            .begin_host_call(|| host_call_text::metrics_call("metrics.count", &name, &labels, &by));
        let result =
            capability.get().and_then(|guest_metrics| guest_metrics.count(name, labels, by));
        self.finish_metrics_call(pending, result)
    }

    fn observe(
        &mut self,
        name: String,
        labels: Vec<(String, String)>,
        value: f64,
    ) -> Result<(), metrics::Error> {
        let capability = self.plugin.metrics.clone();
        let pending = self.begin_host_call(|| {
            host_call_text::metrics_call("metrics.observe", &name, &labels, &value)
        });
        let result =
            capability.get().and_then(|guest_metrics| guest_metrics.observe(name, labels, value));
        self.finish_metrics_call(pending, result)
    }
}

impl types::Host for GuestState {}
