//! The client behind trusted proxies (`X-Forwarded-For`). Each proxy appends the address from
//! which it received the request. Only the addresses that trusted proxies appended are
//! reliable, because the sender can forge the addresses before them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};

use plugboard_config::Networks;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the client of a request that a trusted proxy forwarded: the last address that is not
/// in `trusted`, or the first one if all are. `None`: the header is missing or invalid.
pub(super) fn sender(headers: &HeaderMap, trusted: &Networks) -> Option<IpAddr> {
    let mut first = None;
    for line in headers.get_all(FORWARDED_FOR).iter().rev() {
        for entry in line.as_bytes().rsplit(|byte| *byte == b',') {
            let entry = entry.trim_ascii();
            // RFC 9110, 5.6.1: empty elements do not count.
            if entry.is_empty() {
                continue;
            }
            let address = parse_address(entry)?;
            if !trusted.contains(address) {
                return Some(address);
            }
            first = Some(address);
        }
    }
    first
}

/// Parses an address with an optional port, which some proxies add.
fn parse_address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let without_port = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let address = without_port().or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn sender_is_last_untrusted_address() {
        let trusted = Networks::parse("10.0.0.0/8, 2001:db8:f::/48").unwrap();
        for (lines, expected) in [
            (&[][..], None),
            (&[""], None),
            (&[" , "], None),
            (&["203.0.113.9"], Some("203.0.113.9")),
            (&["203.0.113.9, 10.0.0.2"], Some("203.0.113.9")),
            (&["203.0.113.9, 10.0.0.2,10.0.0.3"], Some("203.0.113.9")),
            // The sender forged the first address.
            (&["198.51.100.1, 203.0.113.9"], Some("203.0.113.9")),
            (&["invalid, 203.0.113.9, 10.0.0.2"], Some("203.0.113.9")),
            (&["\u{fc}, 203.0.113.9"], Some("203.0.113.9")),
            // Several lines form one list, in their order.
            (&["198.51.100.1", "203.0.113.9", "10.0.0.2"], Some("203.0.113.9")),
            (&["203.0.113.9", "10.0.0.2, 198.51.100.1"], Some("198.51.100.1")),
            (&["203.0.113.9", ""], Some("203.0.113.9")),
            // The platform is inside the proxies' network.
            (&["10.0.0.7"], Some("10.0.0.7")),
            (&["10.0.0.7, 10.0.0.2"], Some("10.0.0.7")),
            // Addresses with ports and brackets.
            (&["203.0.113.9:5678"], Some("203.0.113.9")),
            (&["[2001:db8::1]:5"], Some("2001:db8::1")),
            (&["[2001:db8::1]"], Some("2001:db8::1")),
            (&["2001:db8::1, 2001:db8:f::2"], Some("2001:db8::1")),
            // An IPv4-mapped IPv6 address.
            (&["::ffff:203.0.113.9"], Some("203.0.113.9")),
            (&["[::ffff:203.0.113.9]:80, ::ffff:10.0.0.2"], Some("203.0.113.9")),
            // The client is unknown.
            (&["unknown"], None),
            (&["_hidden"], None),
            (&["203.0.113.9, unknown"], None),
            (&["203.0.113.9, invalid, 10.0.0.2"], None),
            (&["invalid, 10.0.0.2"], None),
            (&["203.0.113.9", "\u{fc}"], None),
            (&["203.0.113.9:"], None),
            (&["203.0.113.9:70000"], None),
            (&["203.0.113.9 10.0.0.2"], None),
            (&["[203.0.113.9]"], None),
            (&["[2001:db8::1"], None),
            (&["203.0.113.0/24"], None),
            (&["203.0.113.009"], None),
            (&["3405803785"], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(sender(&headers, &trusted), expected, "{lines:?}");
        }
    }
}
