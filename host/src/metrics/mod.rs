//! The metrics for Prometheus (OpenMetrics text). What is counted elsewhere for
//! other reasons is read from there when it is asked for, so that no call counts
//! twice. Labels are names of plugins, words of ours, and status codes: nothing
//! that a caller can make up.

mod collect;
mod guests;
mod network;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry as Series;

use self::collect::Collect;
#[cfg(test)]
pub(crate) use self::collect::sample;
pub use self::network::Network;
use crate::dispatch::Dispatcher;
use crate::engine::Engine;
use crate::journal::Journal;
use crate::plugin::error::Stage;
use crate::registry::Registry;
use crate::reload::Witness;
use crate::router::Router;
use crate::store::Store;
use crate::traces::Counts;

/// Everything that is counted.
pub struct Metrics {
    series: Series,
    http: Arc<Http>,
    network: Network,
    reloads: Family<ReloadLabels, Counter>,
    load_failures: Family<StageLabels, Counter>,
}

/// Those who count.
pub struct Counted<'a> {
    /// Where plugins run.
    pub engine: &'a Engine,
    /// The plugins.
    pub registry: &'a Registry,
    /// The chain.
    pub router: &'a Router,
    /// The way in for events.
    pub journal: &'a Journal,
    /// Those who tell observers.
    pub dispatcher: &'a Dispatcher,
    /// What is kept.
    pub store: &'a dyn Store,
}

/// Requests by listener and status.
#[derive(Debug, Default)]
pub struct Http {
    /// To the webhook listener.
    pub webhooks: Statuses,
    /// To the admin listener.
    pub admin: Statuses,
}

/// Requests by status. Counted without a lock, as every call does it.
#[derive(Debug)]
pub struct Statuses([AtomicU64; 500]);

/// The least status there is; codes are 100 to 599.
const FIRST_STATUS: u16 = 100;

impl Default for Statuses {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Statuses {
    /// Counts an answer.
    pub fn count(&self, status: u16) {
        let counter = status.checked_sub(FIRST_STATUS).and_then(|at| self.0.get(usize::from(at)));
        if let Some(counter) = counter {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// The statuses that were answered with, and how often.
    fn seen(&self) -> impl Iterator<Item = (u16, u64)> {
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
        let network = Network::new(&mut series);
        Self { series, http: Arc::default(), network, reloads, load_failures }
    }
}

impl Metrics {
    /// With what is counted of spans, where there are any.
    pub fn new(spans: Option<&Counts>) -> Self {
        let mut metrics = Self::default();
        if let Some(Counts { exported, lost }) = spans {
            let series = &mut metrics.series;
            let help = "Spans of traces that the collector took";
            series.register("spans_exported", help, exported.clone());
            let help = "Spans of traces that the collector did not take, or not in time";
            series.register("spans_lost", help, lost.clone());
        }
        metrics
    }

    /// Requests by listener and status.
    pub fn http(&self) -> &Arc<Http> {
        &self.http
    }

    /// Senders and the certificate.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The metrics as text, with what these parts count.
    ///
    /// # Errors
    ///
    /// Never in practice: text can be written to memory.
    pub fn render(&self, parts: &Counted<'_>) -> Result<String, std::fmt::Error> {
        let collect = Collect {
            engine: parts.engine.figures(),
            cache: parts.router.cache().map(|cache| cache.figures()),
            http: Arc::clone(&self.http),
            generation: parts.registry.current(),
            events: collect::events(&parts.journal.counts),
            journal: parts.dispatcher.figures(),
            backlogs: parts.dispatcher.backlogs(),
            store_works: parts.store.trouble().is_none(),
        };
        self.encode(collect)
    }

    fn encode(&self, collect: impl Collector) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.series)?;
        let mut series = Series::with_prefix("plugboard");
        series.register_collector(Box::new(collect));
        encode(&mut text, &series)?;
        Ok(text)
    }
}

impl Witness for Metrics {
    fn reconciled(&self, published: bool) {
        let result = if published { "published" } else { "unchanged" };
        self.reloads.get_or_create(&ReloadLabels { result }).inc();
    }

    fn load_failed(&self, stage: Stage) {
        self.load_failures.get_or_create(&StageLabels { stage: stage.name() }).inc();
    }

    fn unreadable(&self) {
        self.reloads.get_or_create(&ReloadLabels { result: "unreadable" }).inc();
    }
}
