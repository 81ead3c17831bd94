//! The metrics for Prometheus (OpenMetrics text). Counters that the services keep anyway
//! are read at scrape time, so that no call counts twice. Label values are plugin names,
//! fixed words and status codes: a caller cannot create series.

mod collect;
mod guest_metrics;
mod network;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry as Series;

use self::collect::MetricsSnapshot;
#[doc(hidden)]
pub use self::collect::sample;
pub use self::network::NetworkCounters;
use crate::Services;
use plugboard_registry::reload::ReloadMetrics;
use plugboard_runtime::plugin::error::Stage;
use plugboard_telemetry::traces::SpanCounts;

/// The metrics that the server counts itself.
pub struct Metrics {
    series: Series,
    http: Arc<HttpCounters>,
    network: NetworkCounters,
    reloads: Family<ReloadLabels, Counter>,
    load_failures: Family<StageLabels, Counter>,
}

/// Responses by listener and status.
#[derive(Debug, Default)]
pub struct HttpCounters {
    /// Of the webhook listener.
    pub webhooks: StatusCounters,
    /// Of the admin listener.
    pub admin: StatusCounters,
}

/// Responses by status. Lock-free, because every call counts here.
#[derive(Debug)]
pub struct StatusCounters([AtomicU64; 500]);

/// The lowest status; codes are 100 to 599.
const FIRST_STATUS: u16 = 100;

impl Default for StatusCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl StatusCounters {
    /// Counts a response.
    pub fn count(&self, status: u16) {
        let counter =
            status.checked_sub(FIRST_STATUS).and_then(|index| self.0.get(usize::from(index)));
        if let Some(counter) = counter {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// The statuses with at least one response, and their counts.
    fn nonzero_counts(&self) -> impl Iterator<Item = (u16, u64)> {
        (FIRST_STATUS..)
            .zip(&self.0)
            .map(|(status, counter)| (status, counter.load(Relaxed)))
            .filter(|(_, count)| *count > 0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut series = Series::with_prefix("plugboard");
        let (reloads, load_failures) = (Family::default(), Family::default());
        series.register(
            "reloads",
            "Looks at the plugin folder, by what came of them",
            Family::clone(&reloads),
        );
        series.register(
            "plugin_load_failures",
            "Versions of plugins that could not be loaded, by stage",
            Family::clone(&load_failures),
        );
        let network = NetworkCounters::new(&mut series);
        Self { series, http: Arc::default(), network, reloads, load_failures }
    }
}

impl Metrics {
    /// Metrics that include the span counters, if traces are exported.
    pub fn new(spans: Option<&SpanCounts>) -> Self {
        let mut metrics = Self::default();
        if let Some(SpanCounts { exported, dropped: lost }) = spans {
            let series = &mut metrics.series;
            let help = "Spans of traces that the collector took";
            series.register("spans_exported", help, exported.clone());
            let help = "Spans of traces that the collector did not take, or not in time";
            series.register("spans_lost", help, lost.clone());
        }
        metrics
    }

    /// Responses by listener and status.
    pub fn http(&self) -> &Arc<HttpCounters> {
        &self.http
    }

    /// The counters of admission and of the certificate.
    pub fn network(&self) -> &NetworkCounters {
        &self.network
    }

    /// Renders the metrics as OpenMetrics text.
    ///
    /// # Errors
    ///
    /// Never in practice: writing to a string does not fail.
    pub fn render(&self, services: &Services) -> Result<String, std::fmt::Error> {
        let snapshot = MetricsSnapshot {
            engine: services.engine.stats(),
            cache: services.router.cache().map(|cache| cache.stats()),
            http: Arc::clone(&self.http),
            generation: services.registry.current(),
            events: collect::event_counts(&services.journal.counters),
            store: services.dispatcher.stats(),
            consumer_lags: services.dispatcher.consumer_lags(),
            is_store_up: services.store.health().is_ok(),
        };
        self.encode(snapshot)
    }

    fn encode(&self, collector: impl Collector) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.series)?;
        let mut series = Series::with_prefix("plugboard");
        series.register_collector(Box::new(collector));
        encode(&mut text, &series)?;
        Ok(text)
    }
}

impl ReloadMetrics for Metrics {
    fn record_reconcile(&self, published: bool) {
        let result = if published { "published" } else { "unchanged" };
        self.reloads.get_or_create(&ReloadLabels { result }).inc();
    }

    fn record_load_failure(&self, stage: Stage) {
        self.load_failures.get_or_create(&StageLabels { stage: stage.name() }).inc();
    }

    fn record_unreadable_folder(&self) {
        self.reloads.get_or_create(&ReloadLabels { result: "unreadable" }).inc();
    }
}
