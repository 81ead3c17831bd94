//! What is counted of senders and of the certificate.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry as Series;

/// Counters, each shared with its clones.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Requests of senders that are not in `senders.allow`.
    pub not_allowed: Counter,
    /// Requests beyond `senders.rate`.
    pub over_rate: Counter,
    /// Certificates that took the place of another.
    pub tls_renewed: Counter,
    /// Changes of the certificate's files that could not be taken.
    pub tls_refused: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

impl Network {
    /// Counters that `series` tells of, from their zero on.
    pub(super) fn new(series: &mut Series) -> Self {
        let (senders, reloads) = (Family::<Reason, Counter>::default(), Family::default());
        let refused = |reason| senders.get_or_create_owned(&Reason { reason });
        let reloaded =
            |result| Family::<Outcome, Counter>::get_or_create_owned(&reloads, &Outcome { result });
        let network = Self {
            not_allowed: refused("not_allowed"),
            over_rate: refused("rate"),
            tls_renewed: reloaded("renewed"),
            tls_refused: reloaded("refused"),
        };
        let help = "Requests that were refused for their sender, by reason";
        series.register("refused_senders", help, senders);
        let help = "Changes of the certificate's files, by what came of them";
        series.register("tls_reloads", help, reloads);
        network
    }
}
