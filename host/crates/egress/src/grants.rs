//! Grants of hosts: the entries of `grants.http`.
//!
//! An entry is `HOST` or `HOST:PORT`, where HOST is one of:
//!
//! * a name, `crm.example.com`; case and a trailing dot are ignored,
//! * `*.example.com`: each name below it, at any depth, but not `example.com` itself,
//! * an address, `10.1.2.3` or `[fd00::1]`,
//! * a network, `10.0.0.0/8` (`10.0.0.0/8:8080`) or `fd00::/8` (`[fd00::]/8:8080`).
//!
//! An entry without a port grants port 80 for http and 443 for https. An address or a network
//! grants URLs with such an address. A granted name that resolves to a private address needs
//! such an entry as well, for the same port: `["crm.internal:8080", "10.0.0.0/8:8080"]`. An
//! IPv4 address within IPv6 counts as IPv4; `::/0` does not grant it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use thiserror::Error;
use url::{Host, Url};

use super::HttpError;
use super::address_policy;
use super::target::{Target, TargetHost, strip_trailing_dot};

/// Hosts that one plugin may reach. Default: none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct HttpGrants(Vec<Grant>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    pattern: HostPattern,
    /// `None`: the default port of the scheme.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Exact(String),
    /// All names with this suffix, which starts with a dot.
    Subdomains(String),
    Network(IpNet),
}

/// Error of an invalid entry of `grants.http`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{entry:?} is not a valid grant: {problem}; {remedy}")]
pub struct GrantError {
    entry: String,
    problem: &'static str,
    remedy: String,
}

impl HttpGrants {
    /// Returns whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the entries in their normalized form.
    pub fn entries(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(Grant::to_string)
    }

    /// Checks the host and port of a URL. An allowed name may still resolve to an address
    /// that is not allowed: [`HttpGrants::check_address`].
    ///
    /// # Errors
    ///
    /// [`HttpError::NotGranted`].
    pub(super) fn check_target(&self, target: &Target) -> Result<(), HttpError> {
        let is_granted = match &target.host {
            TargetHost::Name(name) => {
                self.patterns_for(target).any(|hosts| hosts.matches_name(name))
            }
            TargetHost::Address(address) => {
                self.allows_address(target, address_policy::canonical_address(*address))
            }
        };
        if is_granted {
            return Ok(());
        }
        Err(HttpError::NotGranted(format!(
            "no entry of `grants.http` includes {target}; to allow it, add \"{target}\""
        )))
    }

    /// Checks an address to which a granted name resolves.
    ///
    /// # Errors
    ///
    /// [`HttpError::AddressRefused`].
    pub(super) fn check_address(&self, target: &Target, address: IpAddr) -> Result<(), HttpError> {
        let address = address_policy::canonical_address(address);
        let Some(reason) = address_policy::special_purpose(address) else { return Ok(()) };
        if self.allows_address(target, address) {
            return Ok(());
        }
        let entry = Target { host: TargetHost::Address(address), ..target.clone() };
        Err(HttpError::AddressRefused(format!(
            "{target} resolves to {address} ({reason}), which no entry of `grants.http` includes; \
             to allow it, add \"{entry}\""
        )))
    }

    fn allows_address(&self, target: &Target, address: IpAddr) -> bool {
        self.patterns_for(target).any(
            |hosts| matches!(hosts, HostPattern::Network(network) if network.contains(&address)),
        )
    }

    /// Returns the entries for the target's port.
    fn patterns_for(&self, target: &Target) -> impl Iterator<Item = &HostPattern> {
        self.0
            .iter()
            .filter(|grant| match grant.port {
                Some(port) => port == target.port,
                None => target.has_default_port(),
            })
            .map(|grant| &grant.pattern)
    }
}

impl TryFrom<Vec<String>> for HttpGrants {
    type Error = GrantError;

    fn try_from(entries: Vec<String>) -> Result<Self, GrantError> {
        entries.iter().map(|entry| Grant::parse(entry)).collect::<Result<_, _>>().map(Self)
    }
}

impl HostPattern {
    fn matches_name(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Subdomains(suffix) => {
                name.len() > suffix.len() && name.ends_with(suffix.as_str())
            }
            Self::Network(_) => false,
        }
    }
}

/// Reason and remedy of an invalid entry.
type GrantProblem = (&'static str, String);

const FORMAT_HINT: &str = "write HOST:PORT, as in \"crm.example.com:443\"";

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.pattern, self.port) {
            (HostPattern::Exact(name), _) => f.write_str(name)?,
            (HostPattern::Subdomains(suffix), _) => write!(f, "*{suffix}")?,
            (HostPattern::Network(network), port) => {
                let is_single_address = network.prefix_len() == network.max_prefix_len();
                let needs_brackets =
                    network.addr().is_ipv6() && (is_single_address || port.is_some());
                let (open, close) = if needs_brackets { ("[", "]") } else { ("", "") };
                write!(f, "{open}{}{close}", network.addr())?;
                if !is_single_address {
                    write!(f, "/{}", network.prefix_len())?;
                }
            }
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Grant {
    fn parse(entry: &str) -> Result<Self, GrantError> {
        Self::parse_parts(entry).map_err(|(problem, remedy)| GrantError {
            entry: entry.to_owned(),
            problem,
            remedy,
        })
    }

    fn parse_parts(entry: &str) -> Result<Self, GrantProblem> {
        if entry.contains("://") {
            let target = Url::parse(entry).ok().and_then(|url| Target::from_url(&url).ok());
            let remedy =
                target.map_or_else(|| FORMAT_HINT.to_owned(), |it| format!("write \"{it}\""));
            return Err(("it has a scheme, but a grant is a host and a port", remedy));
        }
        if entry.contains(|c: char| c.is_whitespace() || c.is_control() || "@?#\\%".contains(c)) {
            return Err(("it is more than a host and a port", FORMAT_HINT.to_owned()));
        }
        let (host, rest) = match entry.strip_prefix('[') {
            Some(inner) => inner
                .split_once(']')
                .ok_or(("its closing bracket is missing", "write \"[ADDRESS]:PORT\"".to_owned()))?,
            None if entry.matches(':').count() > 1 => return Self::parse_bare_v6(entry),
            None => entry.split_at(entry.find(['/', ':']).unwrap_or(entry.len())),
        };
        let (length, rest) = match rest.strip_prefix('/') {
            Some(rest) => {
                let (length, rest) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
                (Some(parse_number(length).ok_or_else(path_problem)?), rest)
            }
            None => (None, rest),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(parse_number(port).filter(|port| *port > 0).ok_or_else(|| {
                ("its port is not a number from 1 to 65535", "omit it for 80 and 443".to_owned())
            })?),
            None if rest.is_empty() => None,
            None => return Err(("it is more than a host and a port", FORMAT_HINT.to_owned())),
        };
        let pattern = if entry.starts_with('[') {
            let address = host.parse().map(IpAddr::V6).map_err(|_| {
                (
                    "the text in brackets is not an IPv6 address",
                    "write \"[ADDRESS]:PORT\"".to_owned(),
                )
            })?;
            parse_network(address, length)?
        } else if let Some(length) = length {
            parse_network(host.parse().map_err(|_| path_problem())?, Some(length))?
        } else {
            parse_host(host)?
        };
        Ok(Self { pattern, port })
    }

    /// Parses an IPv6 network without brackets, such as `fd00::/8`. Rejects `::1:8080` as
    /// ambiguous: the 8080 may be a part of the address.
    fn parse_bare_v6(entry: &str) -> Result<Self, GrantProblem> {
        let (address, length) = entry.split_once('/').unwrap_or((entry, ""));
        match (address.parse().map(IpAddr::V6), parse_number(length)) {
            (Ok(address), Some(length)) => {
                Ok(Self { pattern: parse_network(address, Some(length))?, port: None })
            }
            _ => Err((
                "an IPv6 address must be in brackets, which separate it from a port",
                "write \"[ADDRESS]\", \"[ADDRESS]:PORT\" or \"[ADDRESS]/LENGTH:PORT\"".to_owned(),
            )),
        }
    }
}

fn path_problem() -> GrantProblem {
    ("it has a path, but a grant is a host and a port", FORMAT_HINT.to_owned())
}

/// Parses a number of digits only; `parse` would also accept a sign.
fn parse_number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn parse_network(address: IpAddr, length: Option<u16>) -> Result<HostPattern, GrantProblem> {
    let Some(length) = length else {
        return Ok(HostPattern::Network(canonical_network(address.into())));
    };
    let network = u8::try_from(length)
        .ok()
        .and_then(|length| IpNet::new(address, length).ok())
        .ok_or(("its prefix length is too large", "IPv4 has 32 bits, IPv6 has 128".to_owned()))?;
    // The author may mean the address or the network; the network would grant more than the
    // address.
    if network.trunc() != network {
        let remedy = format!("write \"{}\", or \"{address}\" for one host", network.trunc());
        return Err(("its address is not the first of its network", remedy));
    }
    Ok(HostPattern::Network(canonical_network(network)))
}

/// Returns the network in the form of [`address_policy::canonical_address`].
fn canonical_network(network: IpNet) -> IpNet {
    let length = network.prefix_len().checked_sub(96);
    match (network, address_policy::canonical_address(network.addr()), length) {
        (IpNet::V6(_), address @ IpAddr::V4(_), Some(length)) => {
            IpNet::new(address, length).unwrap_or(network)
        }
        _ => network,
    }
}

fn parse_host(host: &str) -> Result<HostPattern, GrantProblem> {
    let (name, is_wildcard) = match host.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (host, false),
    };
    if name.contains('*') {
        let remedy = "write the names, or \"*.example.com\" for all names below one".to_owned();
        return Err(("`*` is allowed only in front of a dot and a name", remedy));
    }
    match Host::parse(name) {
        Ok(Host::Domain(name)) => {
            let name = strip_trailing_dot(&name);
            if name.len() > 253 || name.split('.').any(str::is_empty) {
                return Err(("its host is not a valid name", FORMAT_HINT.to_owned()));
            }
            Ok(if is_wildcard {
                HostPattern::Subdomains(format!(".{name}"))
            } else {
                HostPattern::Exact(name.to_owned())
            })
        }
        Ok(Host::Ipv4(address))
            if !is_wildcard && address.to_string() == strip_trailing_dot(name) =>
        {
            parse_network(address.into(), None)
        }
        Ok(Host::Ipv4(address)) => {
            Err(("its host is an encoded IPv4 address", format!("write \"{address}\"")))
        }
        Ok(Host::Ipv6(_)) | Err(_) => Err(("its host is not a valid name", FORMAT_HINT.to_owned())),
    }
}

#[cfg(test)]
mod tests;
