//! Encoding of metric families and their rows.

use std::fmt::Error;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType::{self, Counter};

use plugboard_runtime::plugin::histogram::{BUCKETS_US, HistogramSnapshot};

/// The encoder of metric families.
pub(super) struct MetricWriter<'a>(pub(super) DescriptorEncoder<'a>);

impl MetricWriter<'_> {
    pub(super) fn write_family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: impl FnOnce(&mut RowWriter<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        rows(&mut RowWriter(self.0.encode_descriptor(name, help, None, kind)?))
    }

    pub(super) fn write_single(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        value: u64,
    ) -> Result<(), Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        match kind {
            Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
            _ => metric.encode_gauge(&saturating_i64(value)),
        }
    }
}

/// The encoder of a family's rows.
pub(super) struct RowWriter<'a>(MetricEncoder<'a>);

impl RowWriter<'_> {
    pub(super) fn write_counter(
        &mut self,
        labels: &[(&str, &str)],
        value: u64,
    ) -> Result<(), Error> {
        let labels = EscapedLabels(labels);
        self.0.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    pub(super) fn write_gauge(&mut self, labels: &[(&str, &str)], value: u64) -> Result<(), Error> {
        let labels = EscapedLabels(labels);
        self.0.encode_family(&labels)?.encode_gauge(&saturating_i64(value))
    }

    pub(super) fn write_histogram(
        &mut self,
        labels: &[(&str, &str)],
        times: &HistogramSnapshot,
    ) -> Result<(), Error> {
        let bounds = BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(times.buckets).collect();
        let sum = times.total_us as f64 / 1e6;
        self.write_buckets(labels, sum, &buckets)
    }

    /// Encodes a histogram with bounds of its own.
    pub(super) fn write_buckets(
        &mut self,
        labels: &[(&str, &str)],
        sum: f64,
        buckets: &[(f64, u64)],
    ) -> Result<(), Error> {
        let count = buckets.iter().map(|(_, count)| count).sum();
        let labels = EscapedLabels(labels);
        self.0.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, buckets, None)
    }
}

/// The labels of a row, with escaped values.
struct EscapedLabels<'a>(&'a [(&'a str, &'a str)]);

impl EncodeLabelSet for EscapedLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        EncodeLabelSet::encode(&self.0, encoder)
    }
}

/// Converts to a signed value, which gauges of the format have.
fn saturating_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Escapes a label value, which the encoder does not do.
pub(super) fn escape_label_value(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
