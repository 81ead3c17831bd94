//! Who may send to the webhook listener, and how much. Asked before anything of a
//! request but its head is read.

mod forwarded;
mod pace;
mod refusals;

use std::net::IpAddr;

use axum::http::Request;
use governor::clock::DefaultClock;

use self::pace::Pace;
use self::refusals::Refusals;
use super::error::HttpError;
use crate::config::{Networks, SendersConfig};
use crate::metrics::Network;

/// What load balancers ask, from wherever they are.
const PROBE: &str = "/health";

/// Lets in whom the operator wants.
pub(super) struct Gate {
    allow: Networks,
    trusted_proxies: Networks,
    pace: Option<Pace>,
    not_allowed: Refusals,
    over_rate: Refusals,
}

impl Gate {
    /// As configured; none when everybody may send as much as he likes.
    pub(super) fn new(config: &SendersConfig, network: &Network) -> Option<Self> {
        let SendersConfig { allow, trusted_proxies, rate } = config;
        (!allow.is_empty() || rate.is_some()).then(|| Self {
            allow: allow.clone(),
            trusted_proxies: trusted_proxies.clone(),
            pace: rate.map(|rate| Pace::new(rate, DefaultClock::default())),
            not_allowed: Refusals::new(network.not_allowed.clone()),
            over_rate: Refusals::new(network.over_rate.clone()),
        })
    }

    /// Whether a request may come in that `peer`, a canonical address, sends.
    ///
    /// # Errors
    ///
    /// When its sender is not one of those who may, or has sent too much.
    pub(super) fn admit<B>(&self, peer: IpAddr, request: &Request<B>) -> Result<(), HttpError> {
        if request.uri().path() == PROBE {
            return Ok(());
        }
        let sender = if self.trusted_proxies.contain(peer) {
            forwarded::sender(request.headers(), &self.trusted_proxies)
        } else {
            // Anybody can write the header.
            Some(peer)
        };
        if !self.allow.is_empty() && !sender.is_some_and(|sender| self.allow.contain(sender)) {
            if let Some(refused) = self.not_allowed.count() {
                tell_of_stranger(peer, sender, refused);
            }
            return Err(HttpError::sender_not_allowed());
        }
        let Some(pace) = &self.pace else { return Ok(()) };
        // All that a proxy does not name are one.
        let sender = sender.unwrap_or(peer);
        pace.take(sender).map_err(|wait| {
            if let Some(refused) = self.over_rate.count() {
                tracing::warn!(
                    %sender,
                    refused,
                    "requests are refused: their sender sends more than senders.rate"
                );
            }
            HttpError::too_many_requests(wait)
        })
    }
}

fn tell_of_stranger(peer: IpAddr, sender: Option<IpAddr>, refused: u64) {
    match sender {
        Some(sender) => tracing::warn!(
            %sender,
            %peer,
            refused,
            "requests are refused: their sender is not in senders.allow"
        ),
        None => tracing::warn!(
            %peer,
            refused,
            "requests are refused: this proxy (senders.trusted_proxies) does not say for whom it \
             sends (X-Forwarded-For)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::Rate;

    fn gate(allow: &str, trusted: &str, rate: Option<u32>) -> (Gate, Network) {
        let some = |text: &str| {
            if text.is_empty() { Networks::default() } else { Networks::parse(text).unwrap() }
        };
        let rate = rate.and_then(NonZeroU32::new);
        let config = SendersConfig {
            allow: some(allow),
            trusted_proxies: some(trusted),
            rate: rate.map(|rate| Rate { per_second: NonZeroU32::MIN, burst: rate }),
        };
        let network = Network::default();
        (Gate::new(&config, &network).unwrap(), network)
    }

    fn admit(gate: &Gate, peer: &str, forwarded: Option<&str>) -> bool {
        let mut request = Request::post("/events");
        if let Some(forwarded) = forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        gate.admit(peer.parse().unwrap(), &request.body(()).unwrap()).is_ok()
    }

    #[test]
    fn nothing_configured_is_no_gate() {
        let trusted_proxies = Networks::parse("10.0.0.0/8").unwrap();
        let config = SendersConfig { trusted_proxies, ..SendersConfig::default() };
        assert!(Gate::new(&config, &Network::default()).is_none());
    }

    #[test]
    fn only_those_on_the_list_come_in() {
        let (gate, network) = gate("203.0.113.0/24", "10.0.0.0/8", None);
        for (peer, forwarded, expected) in [
            ("203.0.113.9", None, true),
            ("198.51.100.1", None, false),
            // Nobody but a trusted proxy is believed.
            ("198.51.100.1", Some("203.0.113.9"), false),
            ("203.0.113.9", Some("198.51.100.1"), true),
            ("203.0.113.9", Some("rubbish"), true),
            ("10.0.0.1", Some("203.0.113.9"), true),
            ("10.0.0.1", Some("203.0.113.9, 198.51.100.1"), false),
            ("10.0.0.1", Some("rubbish"), false),
            ("10.0.0.1", None, false),
        ] {
            assert_eq!(admit(&gate, peer, forwarded), expected, "{peer} {forwarded:?}");
        }
        assert_eq!((network.not_allowed.get(), network.over_rate.get()), (5, 0));
        let probe = Request::get("/health").body(()).unwrap();
        assert!(gate.admit("198.51.100.1".parse().unwrap(), &probe).is_ok());
    }

    #[test]
    fn each_sender_has_its_own_allowance() {
        let (gate, network) = gate("", "10.0.0.0/8", Some(2));
        let many = |peer, forwarded| (0..5).filter(|_| admit(&gate, peer, forwarded)).count();
        assert_eq!(many("203.0.113.9", None), 2);
        // The header opens no new account.
        assert_eq!(many("203.0.113.9", Some("203.0.113.10")), 0);
        assert_eq!(many("10.0.0.1", Some("203.0.113.11")), 2);
        assert_eq!(many("10.0.0.2", Some("203.0.113.11")), 0);
        // Whom the proxy does not name share its own.
        assert_eq!(many("10.0.0.1", Some("rubbish")), 2);
        assert_eq!(many("10.0.0.1", None), 0);
        assert_eq!((network.not_allowed.get(), network.over_rate.get()), (0, 5 * 6 - 6));
    }

    #[test]
    fn strangers_use_up_nobodys_allowance() {
        let (gate, _) = gate("203.0.113.0/24", "", Some(1));
        assert!(!admit(&gate, "198.51.100.1", None));
        assert!(admit(&gate, "203.0.113.9", None));
        assert!(!admit(&gate, "203.0.113.9", None));
    }
}
