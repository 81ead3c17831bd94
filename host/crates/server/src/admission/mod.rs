//! Admission control for the webhook listener: allowed networks and rate limits. It runs after
//! only the head of a request is read.

mod forwarded;
mod rate_limit;
mod rejection_log;

use std::net::IpAddr;

use axum::http::Request;
use governor::clock::DefaultClock;

use self::rate_limit::SenderRateLimiter;
use self::rejection_log::RejectionLog;
use super::error::ErrorResponse;
use crate::metrics::NetworkCounters;
use plugboard_config::{IngressConfig, Networks};

/// The path of load balancers' health checks, which are always admitted.
const HEALTH_PATH: &str = "/health";

/// The admission policy of the webhook listener.
pub(super) struct AdmissionPolicy {
    allowed_networks: Networks,
    trusted_proxies: Networks,
    rate_limiter: Option<SenderRateLimiter>,
    ip_not_allowed: RejectionLog,
    rate_limited: RejectionLog,
}

impl AdmissionPolicy {
    /// Creates the policy of the configuration. `None`: every request is admitted.
    pub(super) fn new(config: &IngressConfig, network: &NetworkCounters) -> Option<Self> {
        let IngressConfig { allowed_networks, trusted_proxies, rate_limit } = config;
        (!allowed_networks.is_empty() || rate_limit.is_some()).then(|| Self {
            allowed_networks: allowed_networks.clone(),
            trusted_proxies: trusted_proxies.clone(),
            rate_limiter: rate_limit
                .map(|limit| SenderRateLimiter::new(limit, DefaultClock::default())),
            ip_not_allowed: RejectionLog::new(network.ip_not_allowed.clone()),
            rate_limited: RejectionLog::new(network.rate_limited.clone()),
        })
    }

    /// Admits or rejects a request from `peer`, a canonical address.
    ///
    /// # Errors
    ///
    /// Fails if the sender is not allowed, or exceeds its rate limit.
    pub(super) fn admit<B>(&self, peer: IpAddr, request: &Request<B>) -> Result<(), ErrorResponse> {
        if request.uri().path() == HEALTH_PATH {
            return Ok(());
        }
        let sender = if self.trusted_proxies.contains(peer) {
            forwarded::sender(request.headers(), &self.trusted_proxies)
        } else {
            // Any sender can write the header, so it counts from a trusted proxy only.
            Some(peer)
        };
        if !self.allowed_networks.is_empty()
            && !sender.is_some_and(|sender| self.allowed_networks.contains(sender))
        {
            if let Some(rejected) = self.ip_not_allowed.record() {
                log_ip_not_allowed(peer, sender, rejected);
            }
            return Err(ErrorResponse::ip_not_allowed());
        }
        let Some(rate_limiter) = &self.rate_limiter else { return Ok(()) };
        // Requests without a client address from the proxy share one bucket.
        let sender = sender.unwrap_or(peer);
        rate_limiter.check(sender).map_err(|wait| {
            if let Some(rejected) = self.rate_limited.record() {
                tracing::warn!(
                    %sender,
                    rejected,
                    "requests rejected: their sender exceeds ingress.rate_limit"
                );
            }
            ErrorResponse::too_many_requests(wait)
        })
    }
}

fn log_ip_not_allowed(peer: IpAddr, sender: Option<IpAddr>, rejected: u64) {
    match sender {
        Some(sender) => tracing::warn!(
            %sender,
            %peer,
            rejected,
            "requests rejected: their sender is not in ingress.allowed_networks"
        ),
        None => tracing::warn!(
            %peer,
            rejected,
            "requests rejected: this proxy (ingress.trusted_proxies) sends no valid X-Forwarded-For"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use plugboard_config::RateLimit;

    fn policy(
        allow: &str,
        trusted: &str,
        burst: Option<u32>,
    ) -> (AdmissionPolicy, NetworkCounters) {
        let networks = |text: &str| {
            if text.is_empty() { Networks::default() } else { Networks::parse(text).unwrap() }
        };
        let burst = burst.and_then(NonZeroU32::new);
        let config = IngressConfig {
            allowed_networks: networks(allow),
            trusted_proxies: networks(trusted),
            rate_limit: burst.map(|burst| RateLimit { per_second: NonZeroU32::MIN, burst }),
        };
        let network = NetworkCounters::default();
        (AdmissionPolicy::new(&config, &network).unwrap(), network)
    }

    fn admit(policy: &AdmissionPolicy, peer: &str, forwarded: Option<&str>) -> bool {
        let mut request = Request::post("/events");
        if let Some(forwarded) = forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        policy.admit(peer.parse().unwrap(), &request.body(()).unwrap()).is_ok()
    }

    #[test]
    fn default_config_has_no_admission_policy() {
        let trusted_proxies = Networks::parse("10.0.0.0/8").unwrap();
        let config = IngressConfig { trusted_proxies, ..IngressConfig::default() };
        assert!(AdmissionPolicy::new(&config, &NetworkCounters::default()).is_none());
    }

    #[test]
    fn only_allowed_networks_are_admitted() {
        let (policy, network) = policy("203.0.113.0/24", "10.0.0.0/8", None);
        for (peer, forwarded, expected) in [
            ("203.0.113.9", None, true),
            ("198.51.100.1", None, false),
            // Only trusted proxies may set the header.
            ("198.51.100.1", Some("203.0.113.9"), false),
            ("203.0.113.9", Some("198.51.100.1"), true),
            ("203.0.113.9", Some("invalid"), true),
            ("10.0.0.1", Some("203.0.113.9"), true),
            ("10.0.0.1", Some("203.0.113.9, 198.51.100.1"), false),
            ("10.0.0.1", Some("invalid"), false),
            ("10.0.0.1", None, false),
        ] {
            assert_eq!(admit(&policy, peer, forwarded), expected, "{peer} {forwarded:?}");
        }
        assert_eq!((network.ip_not_allowed.get(), network.rate_limited.get()), (5, 0));
        let probe = Request::get("/health").body(()).unwrap();
        assert!(policy.admit("198.51.100.1".parse().unwrap(), &probe).is_ok());
    }

    #[test]
    fn each_sender_has_its_own_rate_limit() {
        let (policy, network) = policy("", "10.0.0.0/8", Some(2));
        let admitted_of_five =
            |peer, forwarded| (0..5).filter(|_| admit(&policy, peer, forwarded)).count();
        assert_eq!(admitted_of_five("203.0.113.9", None), 2);
        // The header of an untrusted sender does not open another bucket.
        assert_eq!(admitted_of_five("203.0.113.9", Some("203.0.113.10")), 0);
        assert_eq!(admitted_of_five("10.0.0.1", Some("203.0.113.11")), 2);
        assert_eq!(admitted_of_five("10.0.0.2", Some("203.0.113.11")), 0);
        // Requests without a valid client address share the proxy's bucket.
        assert_eq!(admitted_of_five("10.0.0.1", Some("invalid")), 2);
        assert_eq!(admitted_of_five("10.0.0.1", None), 0);
        assert_eq!((network.ip_not_allowed.get(), network.rate_limited.get()), (0, 5 * 6 - 6));
    }

    #[test]
    fn rejected_addresses_consume_no_rate_limit() {
        let (policy, _) = policy("203.0.113.0/24", "", Some(1));
        assert!(!admit(&policy, "198.51.100.1", None));
        assert!(admit(&policy, "203.0.113.9", None));
        assert!(!admit(&policy, "203.0.113.9", None));
    }
}
