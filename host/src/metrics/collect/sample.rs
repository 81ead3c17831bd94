//! The metrics when everything has been counted once that can be, for the reference
//! and whoever looks whether a metric exists.

use std::time::Duration;

use super::*;
use crate::metrics::Metrics;
use crate::plugin::error::{PluginError, Stage};
use crate::plugin::stats::{LastError, Stats};
use crate::registry::Entry;
use crate::reload::Witness;

/// The name of the plugin that stands for all.
const PLUGIN: &str = "10-vip";

#[derive(Debug)]
struct Sample(Collect);

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let stats = Stats::default();
        stats.ran(Duration::from_micros(100), Err(&PluginError::Busy));
        stats.refused("http", "not_granted");
        let row = Row {
            name: PLUGIN.to_owned(),
            seen: stats.snapshot(),
            is_set_aside: false,
            events: Some(&stats.events),
            uses: vec![
                (Hook::Tools.interface(), &stats.tools),
                (Hook::Transfers.interface(), &stats.transfers),
            ],
        };
        self.0.write(&mut Out(encoder), &[row])
    }
}

/// Every family, each with a row of each of its labels.
pub(crate) fn text() -> String {
    let metrics = Metrics::new(Some(&crate::traces::Counts::default()));
    metrics.reconciled(true);
    metrics.reconciled(false);
    metrics.unreadable();
    for stage in [Stage::Read, Stage::Settings, Stage::Compile, Stage::Link, Stage::Instantiate] {
        metrics.load_failed(stage);
    }
    metrics.http().webhooks.count(200);
    metrics.http().admin.count(200);
    let entry = Entry {
        name: PLUGIN.to_owned(),
        file: format!("{PLUGIN}.wasm").into(),
        plugin: None,
        disabled: false,
        error: Some(LastError::now(&PluginError::Empty, None)),
    };
    let collect = Collect {
        engine: engine::Figures { instances: 1, used: 0 },
        cache: Some(cache::Figures { entries: 0, bytes: 0, evictions: 0, refused: 0 }),
        http: Arc::clone(metrics.http()),
        generation: Arc::new(Generation::new(1, vec![entry], Vec::new())),
        events: events(&Counts::default()),
        journal: store::Figures::default(),
        backlogs: vec![(PLUGIN.into(), 0)],
        store_works: true,
    };
    metrics.encode(Sample(collect)).unwrap()
}
