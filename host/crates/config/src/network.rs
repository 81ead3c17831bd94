//! `[tls]` and `[ingress]`: the certificate of the webhook listener, and admission control.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, de};

use super::ConfigError;

/// Largest rate limit, per second. Far above it, the interval between two requests would be
/// below a nanosecond.
const MOST_PER_SECOND: u32 = 1_000_000;

/// The certificate files of the webhook listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate chain, the server's own first, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM.
    pub key: PathBuf,
}

/// Admission control: allowed networks and the rate limit of each sender.
#[derive(Clone, Debug, Default)]
pub struct IngressConfig {
    /// The networks that may send. Empty: all.
    pub allowed_networks: Networks,
    /// The proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Networks,
    /// The rate limit of each sender. None: unlimited.
    pub rate_limit: Option<RateLimit>,
}

/// The rate limit of one sender (token bucket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Sustained requests per second.
    pub per_second: NonZeroU32,
    /// Requests at once after a pause.
    pub burst: NonZeroU32,
}

/// A list of IP networks. IPv4-mapped IPv6 addresses (`::ffff:192.0.2.1`) count as IPv4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Returns true if a canonical address ([`IpAddr::to_canonical`]) is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns true if the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Parses a comma-separated list.
    ///
    /// # Errors
    ///
    /// Fails if an item is not a network; names it and the expected form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut networks = Self::default();
        text.split(',').try_for_each(|item| networks.add(item.trim()))?;
        Ok(networks)
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        self.0.push(parse_network(text)?);
        Ok(())
    }
}

/// Parses a network in CIDR notation, or a single address.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let result = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let Ok(network) = result else {
        return Err(format!(
            "{text:?} is not a network: expected an address or CIDR notation, such as \
             \"203.0.113.0/24\" or \"2001:db8::/32\""
        ));
    };
    // Either the prefix length or the address is wrong, and only the operator knows which.
    if network.trunc() != network {
        return Err(format!(
            "{text:?} is an address within a network: expected {:?} for the whole network, or {:?} \
             for the one address",
            network.trunc().to_string(),
            network.addr().to_string()
        ));
    }
    Ok(canonical(network))
}

/// Converts a network of IPv4-mapped addresses to an IPv4 network.
fn canonical(network: IpNet) -> IpNet {
    /// Bits before the IPv4 address.
    const MAPPED: u8 = 96;
    let length = network.prefix_len().checked_sub(MAPPED);
    match (network.addr().to_canonical(), network, length) {
        (IpAddr::V4(address), IpNet::V6(_), Some(length)) => {
            Ipv4Net::new(address, length).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}

/// `[tls]`: HTTPS for the webhook listener. Without it, the listener uses plain HTTP.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsSection {
    /// PEM file with the certificate chain, the server's own certificate first.
    certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key, without a passphrase. Required if
    /// `tls.certificate` is set.
    key: Option<PathBuf>,
}

impl TlsSection {
    pub(super) fn check(self) -> Result<Option<TlsConfig>, ConfigError> {
        let missing = |key, other| {
            let message = format!("expected a file, because {other} is set; set both or neither");
            Err(ConfigError::InvalidValue { key, message })
        };
        match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Ok(Some(TlsConfig { certificate, key })),
            (None, None) => Ok(None),
            (Some(_), None) => missing("tls.key", "tls.certificate"),
            (None, Some(_)) => missing("tls.certificate", "tls.key"),
        }
    }
}

/// `[ingress]`: admission control of the webhook listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IngressSection {
    /// Networks (`203.0.113.0/24`) or addresses (`2001:db8::1`) that may send requests.
    /// Requests from other addresses are rejected with 403. Empty: all addresses may send.
    #[serde(deserialize_with = "allowed_networks")]
    #[schemars(with = "Vec<String>")]
    allowed_networks: Networks,
    /// Networks or addresses of proxies whose `X-Forwarded-For` is trusted. Behind a proxy
    /// that is not listed, its own address counts as the sender.
    #[serde(deserialize_with = "trusted_proxies")]
    #[schemars(with = "Vec<String>")]
    trusted_proxies: Networks,
    /// Sustained requests per second of one sender address, at most 1,000,000. Requests above
    /// the limit are rejected with 429. An AVR Core is one sender. `0`: no limit.
    rate_limit: u32,
    /// Requests that one sender may send at once after a pause (the size of the token
    /// bucket), 1 to 1,000,000. None: the value of `ingress.rate_limit`.
    rate_limit_burst: Option<u32>,
}

impl IngressSection {
    pub(super) fn check(self) -> Result<IngressConfig, ConfigError> {
        let Self { allowed_networks, trusted_proxies, rate_limit, rate_limit_burst } = self;
        for (key, value) in [
            ("ingress.rate_limit", rate_limit),
            ("ingress.rate_limit_burst", rate_limit_burst.unwrap_or(1)),
        ] {
            if value > MOST_PER_SECOND {
                let message = format!("expected at most {MOST_PER_SECOND}");
                return Err(ConfigError::InvalidValue { key, message });
            }
        }
        let burst = match rate_limit_burst.map(NonZeroU32::new) {
            Some(None) => {
                return Err(ConfigError::invalid(
                    "ingress.rate_limit_burst",
                    "expected at least 1; omit the key to use ingress.rate_limit",
                ));
            }
            Some(burst) => burst,
            None => None,
        };
        let rate_limit = NonZeroU32::new(rate_limit)
            .map(|per_second| RateLimit { per_second, burst: burst.unwrap_or(per_second) });
        Ok(IngressConfig { allowed_networks, trusted_proxies, rate_limit })
    }
}

fn allowed_networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Networks, D::Error> {
    deserializer.deserialize_any(NetworkListVisitor("ingress.allowed_networks"))
}

fn trusted_proxies<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Networks, D::Error> {
    deserializer.deserialize_any(NetworkListVisitor("ingress.trusted_proxies"))
}

/// Reads a list of networks, or comma-separated text as in an environment variable. Holds the
/// key, for errors.
struct NetworkListVisitor(&'static str);

impl<'de> Visitor<'de> for NetworkListVisitor {
    type Value = Networks;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of networks for {}", self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Networks, E> {
        Networks::parse(text).map_err(|error| E::custom(format!("{}: {error}", self.0)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Networks, A::Error> {
        let mut networks = Networks::default();
        while let Some(item) = items.next_element::<String>()? {
            networks
                .add(&item)
                .map_err(|error| de::Error::custom(format!("{}: {error}", self.0)))?;
        }
        Ok(networks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingress(text: &str) -> Result<IngressConfig, String> {
        let section: IngressSection =
            toml::from_str(text).map_err(|error| error.message().to_owned())?;
        section.check().map_err(|error| error.to_string())
    }

    #[test]
    fn networks_are_addresses_and_cidr() {
        let allowed = |text: &str| ingress(text).unwrap().allowed_networks;
        for (network, within, without) in [
            ("203.0.113.0/24", "203.0.113.255", "203.0.114.0"),
            ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", "::1", "::2"),
            ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("0.0.0.0/0", "198.51.100.1", "2001:db8::1"),
            ("::/0", "2001:db8::1", "198.51.100.1"),
        ] {
            let allowed = allowed(&format!("allowed_networks = ['{network}']"));
            assert!(allowed.contains(within.parse().unwrap()), "{network} {within}");
            assert!(!allowed.contains(without.parse().unwrap()), "{network} {without}");
        }
        let text = allowed("allowed_networks = '10.0.0.0/8, ::1'");
        assert_eq!(text, allowed("allowed_networks = ['10.0.0.0/8', '::1']"));
        assert!(allowed("").is_empty());
        assert!(allowed("allowed_networks = []").is_empty());
    }

    #[test]
    fn invalid_network_error_names_key() {
        for (text, expected) in [
            (
                "allowed_networks = ['10.0.0.0/33']",
                "ingress.allowed_networks: \"10.0.0.0/33\" is not a network",
            ),
            (
                "allowed_networks = ['10.0.0.0/8', 'host']",
                "ingress.allowed_networks: \"host\" is not a network",
            ),
            ("allowed_networks = '10.0.0.0/8,'", "ingress.allowed_networks: \"\" is not a network"),
            (
                "trusted_proxies = ['10.0.0']",
                "ingress.trusted_proxies: \"10.0.0\" is not a network",
            ),
            (
                "allowed_networks = ['10.0.0.1/8']",
                "expected \"10.0.0.0/8\" for the whole network, or",
            ),
            ("allowed_networks = 5", "a list of networks for ingress.allowed_networks"),
        ] {
            let error = ingress(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn burst_defaults_to_rate() {
        let rate = |text| ingress(text).map(|ingress| ingress.rate_limit);
        let of = |per_second, burst| {
            let of = |number| NonZeroU32::new(number).unwrap();
            Some(RateLimit { per_second: of(per_second), burst: of(burst) })
        };
        assert_eq!(rate(""), Ok(None));
        assert_eq!(rate("rate_limit = 0\nrate_limit_burst = 5"), Ok(None));
        assert_eq!(rate("rate_limit = 100"), Ok(of(100, 100)));
        assert_eq!(rate("rate_limit = 100\nrate_limit_burst = 7"), Ok(of(100, 7)));
        for (text, key) in [
            ("rate_limit = 1\nrate_limit_burst = 0", "ingress.rate_limit_burst: "),
            ("rate_limit = 1000001", "ingress.rate_limit: "),
            ("rate_limit = 1\nrate_limit_burst = 1000001", "ingress.rate_limit_burst: "),
        ] {
            let error = rate(text).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
        assert!(rate("rate_limit = -1").is_err());
    }

    #[test]
    fn certificate_and_key_are_both_required() {
        let tls = |text| {
            let section: TlsSection = toml::from_str(text).unwrap();
            section.check().map_err(|error| error.to_string())
        };
        assert_eq!(tls(""), Ok(None));
        let both = TlsConfig { certificate: "c".into(), key: "k".into() };
        assert_eq!(tls("certificate = 'c'\nkey = 'k'"), Ok(Some(both)));
        assert!(tls("certificate = 'c'").unwrap_err().starts_with("tls.key: expected a file"));
        assert!(tls("key = 'k'").unwrap_err().starts_with("tls.certificate: expected a file"));
    }
}
