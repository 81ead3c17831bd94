//! Counters of admission and of the certificate.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry as Series;

use plugboard_tls::CertificateCounters;

/// Counters; clones share them.
#[derive(Clone, Debug, Default)]
pub struct NetworkCounters {
    /// Requests from addresses that are not in `senders.allow`.
    pub not_allowed: Counter,
    /// Requests beyond `senders.rate`.
    pub rate_limited: Counter,
    /// Changes of the certificate's files.
    pub certificate: CertificateCounters,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TlsReloadLabels {
    result: &'static str,
}

impl NetworkCounters {
    /// Registers the counters in `series`, with zero.
    pub(super) fn new(series: &mut Series) -> Self {
        let (senders, reloads) = (Family::<RejectionLabels, Counter>::default(), Family::default());
        let rejections = |reason| senders.get_or_create_owned(&RejectionLabels { reason });
        let tls_reloads = |result| {
            Family::<TlsReloadLabels, Counter>::get_or_create_owned(
                &reloads,
                &TlsReloadLabels { result },
            )
        };
        let network = Self {
            not_allowed: rejections("not_allowed"),
            rate_limited: rejections("rate"),
            certificate: CertificateCounters {
                renewed: tls_reloads("renewed"),
                rejected: tls_reloads("refused"),
            },
        };
        let help = "Requests that were refused for their sender, by reason";
        series.register("refused_senders", help, senders);
        let help = "Changes of the certificate's files, by what came of them";
        series.register("tls_reloads", help, reloads);
        network
    }
}
