//! Sample metrics in which every family and label occurs, for the reference and its tests.

use super::*;
use crate::metrics::{BuildInfo, Metrics};
use plugboard_registry::PluginEntry;
use plugboard_registry::reload::ReloadMetrics;
use plugboard_runtime::plugin::error::{CallError, LoadError, Stage};
use plugboard_runtime::plugin::stats::LastError;

/// The name of the sample plugin.
const PLUGIN: &str = "10-vip";

#[derive(Debug)]
struct SampleCollector(MetricsSnapshot);

impl Collector for SampleCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let stats = StatsSnapshot {
            failures: [(CallError::Busy.label(), 1)].into(),
            host_call_errors: [(("http", "not_granted"), 1)].into(),
            ..StatsSnapshot::default()
        };
        let row =
            PluginRow { name: PLUGIN.to_owned(), hooks: &Hook::ALL, stats, is_circuit_open: false };
        self.0.write(&mut MetricWriter(encoder), &[row])
    }
}

/// Renders every family, each with a row of each of its labels.
///
/// # Errors
///
/// Never fails in practice, because writing to a string does not fail.
pub fn render_sample() -> Result<String, Error> {
    let build = BuildInfo { version: "0.1.0", commit: "3155428" };
    let metrics = Metrics::new(build, Some(&plugboard_telemetry::traces::SpanCounts::default()));
    metrics.record_reconcile(true);
    metrics.record_reconcile(false);
    metrics.record_unreadable_folder();
    for stage in [Stage::Read, Stage::Settings, Stage::Compile, Stage::Link, Stage::Instantiate] {
        metrics.record_load_failure(stage);
    }
    metrics.http().webhooks.count(200);
    metrics.http().admin.count(200);
    let entry = PluginEntry {
        name: PLUGIN.to_owned(),
        file: format!("{PLUGIN}.wasm").into(),
        plugin: None,
        disabled: false,
        error: Some(LastError::in_load(&LoadError::EmptyFile, None)),
    };
    let collect = MetricsSnapshot {
        engine: engine::EngineStats { instances: 1, used: 0 },
        cache: Some(cache::CacheStats { entries: 0, bytes: 0, evictions: 0, uncacheable: 0 }),
        http: Arc::clone(metrics.http()),
        generation: Arc::new(Generation::new(1, vec![entry], Vec::new())),
        events: event_counts(&EventCounters::default()),
        store: store::StoreStats::default(),
        consumer_lags: vec![(PLUGIN.into(), 0)],
        is_store_up: true,
    };
    metrics.encode(SampleCollector(collect))
}
