//! Counters of admission and of the certificate.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry as Series;

use plugboard_tls::CertificateCounters;

/// The counters of the network; clones share them.
#[derive(Clone, Debug, Default)]
pub struct NetworkCounters {
    /// Number of requests from addresses that are not in `ingress.allowed_networks`.
    pub ip_not_allowed: Counter,
    /// Number of requests beyond `ingress.rate_limit`.
    pub rate_limited: Counter,
    /// Counters of the changes of the certificate's files.
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
        let (rejected, reloads) =
            (Family::<RejectionLabels, Counter>::default(), Family::default());
        let rejections = |reason| rejected.get_or_create_owned(&RejectionLabels { reason });
        let tls_reloads = |result| {
            Family::<TlsReloadLabels, Counter>::get_or_create_owned(
                &reloads,
                &TlsReloadLabels { result },
            )
        };
        let network = Self {
            ip_not_allowed: rejections("ip_not_allowed"),
            rate_limited: rejections("rate_limited"),
            certificate: CertificateCounters {
                renewed: tls_reloads("renewed"),
                rejected: tls_reloads("rejected"),
            },
        };
        let help = "Webhook requests that admission control rejected, by reason";
        series.register("http_requests_rejected", help, rejected);
        let help = "Reloads of the certificate files after a change, by result";
        series.register("tls_reloads", help, reloads);
        network
    }
}
