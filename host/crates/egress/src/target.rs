//! Target of a request: the part of a URL that grants apply to.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

/// Longest DNS name, in bytes (RFC 1035, 2.3.4, as text).
const MAX_HOST_LENGTH: usize = 253;

/// Host, port and scheme of one request, or of one hop of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: TargetHost,
    /// Port, explicit or by default.
    pub port: u16,
    /// True if the scheme is https.
    pub tls: bool,
}

/// A host as a URL names it, normalized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetHost {
    /// A name in lower-case ASCII, without a trailing dot.
    Name(String),
    /// An address as the URL standard reads it: `0x7f.1` is 127.0.0.1.
    Address(IpAddr),
}

impl Target {
    /// Returns the target of a URL.
    ///
    /// # Errors
    ///
    /// The reason why the URL is invalid.
    pub fn from_url(url: &Url) -> Result<Self, &'static str> {
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err("the URL's scheme is neither http nor https"),
        };
        // A reader may mistake the user name in `http://granted@other/` for the host.
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL has a user name or a password; send them in a header");
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => TargetHost::Name(strip_trailing_dot(name).to_owned()),
            Some(Host::Ipv4(address)) => TargetHost::Address(address.into()),
            Some(Host::Ipv6(address)) => TargetHost::Address(address.into()),
            None => return Err("the URL has no host"),
        };
        if matches!(&host, TargetHost::Name(name) if name.is_empty() || name.len() > MAX_HOST_LENGTH)
        {
            return Err("the URL's host is empty or longer than 253 bytes");
        }
        let port = url.port_or_known_default().ok_or("the URL has no port")?;
        Ok(Self { host, port, tls })
    }

    /// Returns whether the port is the default of the scheme.
    pub fn has_default_port(&self) -> bool {
        self.port == if self.tls { 443 } else { 80 }
    }

    /// Returns whether a name to be resolved is the host of this target.
    pub fn matches_name(&self, name: &str) -> bool {
        matches!(&self.host, TargetHost::Name(host_name) if host_name.eq_ignore_ascii_case(strip_trailing_dot(name)))
    }
}

impl fmt::Display for TargetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            TargetHost::Name(name) => write!(f, "{name}:{}", self.port),
            TargetHost::Address(IpAddr::V4(address)) => write!(f, "{address}:{}", self.port),
            TargetHost::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
        }
    }
}

/// Returns a name without the trailing dot of a fully qualified name.
pub fn strip_trailing_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}
