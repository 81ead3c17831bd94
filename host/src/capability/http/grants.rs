//! What the operator grants: entries of `grants.http`.
//!
//! An entry is `HOST` or `HOST:PORT`, where HOST is
//!
//! * a name, `crm.example.com`; case and a dot at the end do not matter,
//! * `*.example.com`: each name under it, at any depth, but not itself,
//! * an address, `10.1.2.3` or `[fd00::1]`,
//! * a network, `10.0.0.0/8` (`10.0.0.0/8:8080`) or `fd00::/8` (`[fd00::]/8:8080`).
//!
//! Without a port it is 80 for http and 443 for https. An address or a network
//! grants URLs that name such an address, and is what makes a granted name that
//! leads into the operator's own network work, for the same port:
//! `["crm.internal:8080", "10.0.0.0/8:8080"]`. An IPv4 address within IPv6 is
//! judged as what it is, IPv4; `::/0` does not grant it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use thiserror::Error;
use url::{Host, Url};

use super::HttpError;
use super::egress;
use super::target::{Target, TargetHost, plain};

/// What one plugin may reach. Default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct HttpGrants(Vec<Grant>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    hosts: Hosts,
    /// None: the one of the scheme.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    Name(String),
    /// All that end with this, which starts with a dot.
    Under(String),
    Network(IpNet),
}

/// An entry that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{entry:?} is no grant: {problem}; {remedy}")]
pub struct GrantError {
    entry: String,
    problem: &'static str,
    remedy: String,
}

impl HttpGrants {
    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries, in the form that is compared.
    pub fn entries(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(Grant::to_string)
    }

    /// Judges what a URL names. A name that passes may still lead to where it must
    /// not: [`HttpGrants::admit_address`].
    ///
    /// # Errors
    ///
    /// [`HttpError::NotGranted`].
    pub(super) fn admit(&self, target: &Target) -> Result<(), HttpError> {
        let granted = match &target.host {
            TargetHost::Name(name) => self.of(target).any(|hosts| hosts.has_name(name)),
            TargetHost::Address(address) => self.has_address(target, egress::effective(*address)),
        };
        if granted {
            return Ok(());
        }
        Err(HttpError::NotGranted(format!(
            "{target} is in no entry of `grants.http`; to allow it, add \"{target}\""
        )))
    }

    /// Judges an address that a granted name leads to.
    ///
    /// # Errors
    ///
    /// [`HttpError::AddressRefused`].
    pub(super) fn admit_address(&self, target: &Target, address: IpAddr) -> Result<(), HttpError> {
        let address = egress::effective(address);
        let Some(reason) = egress::special(address) else { return Ok(()) };
        if self.has_address(target, address) {
            return Ok(());
        }
        let entry = Target { host: TargetHost::Address(address), ..target.clone() };
        Err(HttpError::AddressRefused(format!(
            "{target} leads to {address} ({reason}), which no entry of `grants.http` names; to \
             allow it, add \"{entry}\""
        )))
    }

    fn has_address(&self, target: &Target, address: IpAddr) -> bool {
        self.of(target)
            .any(|hosts| matches!(hosts, Hosts::Network(network) if network.contains(&address)))
    }

    /// The entries for the target's port.
    fn of(&self, target: &Target) -> impl Iterator<Item = &Hosts> {
        self.0
            .iter()
            .filter(|grant| match grant.port {
                Some(port) => port == target.port,
                None => target.has_default_port(),
            })
            .map(|grant| &grant.hosts)
    }
}

impl TryFrom<Vec<String>> for HttpGrants {
    type Error = GrantError;

    fn try_from(entries: Vec<String>) -> Result<Self, GrantError> {
        entries.iter().map(|entry| Grant::parse(entry)).collect::<Result<_, _>>().map(Self)
    }
}

impl Hosts {
    fn has_name(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Under(end) => name.len() > end.len() && name.ends_with(end.as_str()),
            Self::Network(_) => false,
        }
    }
}

/// What is wrong, and what to write instead.
type Fault = (&'static str, String);

const FORM: &str = "write HOST:PORT, as in \"crm.example.com:443\"";

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.hosts, self.port) {
            (Hosts::Name(name), _) => f.write_str(name)?,
            (Hosts::Under(end), _) => write!(f, "*{end}")?,
            (Hosts::Network(network), port) => {
                let alone = network.prefix_len() == network.max_prefix_len();
                let brackets = network.addr().is_ipv6() && (alone || port.is_some());
                let (open, close) = if brackets { ("[", "]") } else { ("", "") };
                write!(f, "{open}{}{close}", network.addr())?;
                if !alone {
                    write!(f, "/{}", network.prefix_len())?;
                }
            }
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Grant {
    fn parse(entry: &str) -> Result<Self, GrantError> {
        Self::read(entry).map_err(|(problem, remedy)| GrantError {
            entry: entry.to_owned(),
            problem,
            remedy,
        })
    }

    fn read(entry: &str) -> Result<Self, Fault> {
        if entry.contains("://") {
            let target = Url::parse(entry).ok().and_then(|url| Target::of(&url).ok());
            let remedy = target.map_or_else(|| FORM.to_owned(), |it| format!("write \"{it}\""));
            return Err(("it has a scheme, and no grant is for a part of a host", remedy));
        }
        if entry.contains(|c: char| c.is_whitespace() || c.is_control() || "@?#\\%".contains(c)) {
            return Err(("it is more than a host and a port", FORM.to_owned()));
        }
        let (host, rest) = match entry.strip_prefix('[') {
            Some(inner) => inner
                .split_once(']')
                .ok_or(("it has a bracket too few", "write \"[ADDRESS]:PORT\"".to_owned()))?,
            None if entry.matches(':').count() > 1 => return Self::bare_v6(entry),
            None => entry.split_at(entry.find(['/', ':']).unwrap_or(entry.len())),
        };
        let (length, rest) = match rest.strip_prefix('/') {
            Some(rest) => {
                let (length, rest) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
                (Some(number(length).ok_or_else(path)?), rest)
            }
            None => (None, rest),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(number(port).filter(|port| *port > 0).ok_or_else(|| {
                ("its port is no number from 1 to 65535", "leave it out for 80 and 443".to_owned())
            })?),
            None if rest.is_empty() => None,
            None => return Err(("it is more than a host and a port", FORM.to_owned())),
        };
        let hosts = if entry.starts_with('[') {
            let address = host.parse().map(IpAddr::V6).map_err(|_| {
                ("what is in brackets is no IPv6 address", "write \"[ADDRESS]:PORT\"".to_owned())
            })?;
            network(address, length)?
        } else if let Some(length) = length {
            network(host.parse().map_err(|_| path())?, Some(length))?
        } else {
            hosts(host)?
        };
        Ok(Self { hosts, port })
    }

    /// `fd00::/8`. Of `::1:8080`, nobody knows what the 8080 is.
    fn bare_v6(entry: &str) -> Result<Self, Fault> {
        let (address, length) = entry.split_once('/').unwrap_or((entry, ""));
        match (address.parse().map(IpAddr::V6), number(length)) {
            (Ok(address), Some(length)) => {
                Ok(Self { hosts: network(address, Some(length))?, port: None })
            }
            _ => Err((
                "an IPv6 address has brackets here, as its port would look like a part of it",
                "write \"[ADDRESS]\", \"[ADDRESS]:PORT\" or \"[ADDRESS]/LENGTH:PORT\"".to_owned(),
            )),
        }
    }
}

fn path() -> Fault {
    ("it has a path, and no grant is for a part of a host", FORM.to_owned())
}

/// Only digits: what `parse` takes besides, a sign, is no number here.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn network(address: IpAddr, length: Option<u16>) -> Result<Hosts, Fault> {
    let Some(length) = length else { return Ok(Hosts::Network(effective(address.into()))) };
    let network = u8::try_from(length)
        .ok()
        .and_then(|length| IpNet::new(address, length).ok())
        .ok_or(("its network has too many bits", "32 are all of IPv4, 128 of IPv6".to_owned()))?;
    // It could be meant narrow or wide, and wide would be more than was written.
    if network.trunc() != network {
        let remedy = format!("write \"{}\", or \"{address}\" for it alone", network.trunc());
        return Err(("its address is not the first one of its network", remedy));
    }
    Ok(Hosts::Network(effective(network)))
}

/// As addresses are judged by [`egress::effective`], so must the grants be.
fn effective(network: IpNet) -> IpNet {
    let length = network.prefix_len().checked_sub(96);
    match (network, egress::effective(network.addr()), length) {
        (IpNet::V6(_), address @ IpAddr::V4(_), Some(length)) => {
            IpNet::new(address, length).unwrap_or(network)
        }
        _ => network,
    }
}

fn hosts(host: &str) -> Result<Hosts, Fault> {
    let (name, under) = match host.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (host, false),
    };
    if name.contains('*') {
        let remedy = "write the names, or \"*.example.com\" for all under one".to_owned();
        return Err(("a `*` stands only before a name and a dot", remedy));
    }
    match Host::parse(name) {
        Ok(Host::Domain(name)) => {
            let name = plain(&name);
            if name.len() > 253 || name.split('.').any(str::is_empty) {
                return Err(("its host is no name", FORM.to_owned()));
            }
            Ok(if under { Hosts::Under(format!(".{name}")) } else { Hosts::Name(name.to_owned()) })
        }
        Ok(Host::Ipv4(address)) if !under && address.to_string() == plain(name) => {
            network(address.into(), None)
        }
        Ok(Host::Ipv4(address)) => {
            Err(("its host is an address in disguise", format!("write \"{address}\"")))
        }
        Ok(Host::Ipv6(_)) | Err(_) => Err(("its host is no name", FORM.to_owned())),
    }
}

#[cfg(test)]
mod tests;
