//! The metrics for Prometheus (OpenMetrics text). Counters that the services keep anyway
//! are read at scrape time, so that no call counts twice. Label values are plugin names,
//! fixed words and status codes: a caller cannot create series.

mod collect;
mod guest_metrics;
mod http;
mod network;
mod writer;

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry as Series;

use self::collect::MetricsSnapshot;
#[doc(hidden)]
pub use self::collect::sample;
pub use self::http::{HttpCounters, StatusCounters};
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

/// The program, as the labels of `plugboard_build_info`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BuildInfo {
    /// The version of the program.
    pub version: &'static str,
    /// The abbreviated hash of the commit, or an empty text if it is unknown.
    pub commit: &'static str,
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
            "Scans of the plugin folder, by result",
            Family::clone(&reloads),
        );
        series.register(
            "plugin_load_failures",
            "Plugin versions that could not be loaded, by stage",
            Family::clone(&load_failures),
        );
        let network = NetworkCounters::new(&mut series);
        Self { series, http: Arc::default(), network, reloads, load_failures }
    }
}

impl Metrics {
    /// Creates the metrics of this program, which include the span counters if traces are
    /// exported.
    pub fn new(build: BuildInfo, spans: Option<&SpanCounts>) -> Self {
        let mut metrics = Self::default();
        metrics.series.register("build", "Version and commit of the server", Info::new(build));
        if let Some(SpanCounts { exported, dropped }) = spans {
            let series = &mut metrics.series;
            let help = "Spans that the collector accepted";
            series.register("spans_exported", help, exported.clone());
            let help =
                "Spans that were dropped because the collector rejected them or was too slow";
            series.register("spans_dropped", help, dropped.clone());
        }
        metrics
    }

    /// Returns the counters of responses by listener and status.
    pub fn http(&self) -> &Arc<HttpCounters> {
        &self.http
    }

    /// Returns the counters of admission and of the certificate.
    pub fn network(&self) -> &NetworkCounters {
        &self.network
    }

    /// Renders the metrics as OpenMetrics text.
    ///
    /// # Errors
    ///
    /// Never fails in practice, because writing to a string does not fail.
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
