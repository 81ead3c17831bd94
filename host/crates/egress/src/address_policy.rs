//! SSRF protection: the addresses to which a granted name may resolve.
//!
//! A granted name is not enough. Its DNS server may answer with 127.0.0.1, the address of the
//! operator's database, or that of a cloud metadata service, which returns credentials. It may
//! do so only at the second lookup, after an answer that passed (DNS rebinding). A plugin that
//! takes a part of the name from a caller (`*.example.com`) lets the caller choose. Therefore
//! the address of each connection is checked, and a private address needs its own grant.
//!
//! The lists follow IANA's registries of special-purpose addresses. In doubt they reject more
//! than these: of IPv6, only 2000::/3 is public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(a: u16, b: u16, c: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

/// IPv4 networks that are not public, with the purpose that error messages name.
const SPECIAL_PURPOSE_V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), "this machine"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT"),
    (v4(127, 0, 0, 0, 8), "this machine"),
    (v4(169, 254, 169, 254, 32), "cloud metadata service"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    // Azure's platform services; the address is public, the services are not.
    (v4(168, 63, 129, 16, 32), "cloud metadata service"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "reserved for protocols"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// IPv6 networks that are not public, with their purpose; the last entries are parts of
/// 2000::/3.
const SPECIAL_PURPOSE_V6: &[(Ipv6Net, &str)] = &[
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "this machine"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "this machine"),
    // Each network chooses the position of the IPv4 address.
    (v6(0x64, 0xff9b, 1, 48), "IPv4 translation"),
    (v6(0x100, 0, 0, 64), "discard-only"),
    (v6(0xfc00, 0, 0, 7), "private"),
    (v6(0xfe80, 0, 0, 10), "link-local"),
    (v6(0xfec0, 0, 0, 10), "private (site-local)"),
    (v6(0xff00, 0, 0, 8), "multicast"),
    (v6(0x2001, 0, 0, 32), "Teredo tunnel"),
    (v6(0x2001, 0, 0, 23), "reserved for protocols"),
    (v6(0x2001, 0xdb8, 0, 32), "documentation"),
    (v6(0x2002, 0, 0, 16), "6to4 tunnel"),
    (v6(0x3fff, 0, 0, 20), "documentation"),
];

/// IPv6 addresses that are allocated as public.
const GLOBAL_UNICAST_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// IPv6 networks whose last 32 bits are an IPv4 address: mapped, compatible, translated
/// (NAT64).
const V4_EMBEDDING_NETWORKS: &[Ipv6Net] = &[
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96),
    v6(0x64, 0xff9b, 0, 96),
];

/// Returns the effective address of a connection: the IPv4 address if it is embedded in IPv6.
pub fn canonical_address(address: IpAddr) -> IpAddr {
    let IpAddr::V6(address_v6) = address else { return address };
    if address_v6.is_unspecified() || address_v6.is_loopback() {
        return address;
    }
    if V4_EMBEDDING_NETWORKS.iter().any(|network| network.contains(&address_v6)) {
        let [.., a, b, c, d] = address_v6.octets();
        return Ipv4Addr::new(a, b, c, d).into();
    }
    address
}

/// Returns the purpose of an address that is not public and therefore needs its own grant.
/// `None`: the address is public. Expects a result of [`canonical_address`].
pub fn special_purpose(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => SPECIAL_PURPOSE_V4
            .iter()
            .find(|(network, _)| network.contains(&address))
            .map(|(_, reason)| *reason),
        IpAddr::V6(address) => SPECIAL_PURPOSE_V6
            .iter()
            .find(|(network, _)| network.contains(&address))
            .map(|(_, reason)| *reason)
            .or_else(|| (!GLOBAL_UNICAST_V6.contains(&address)).then_some("not public")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn special_purpose_of(address: &str) -> Option<&'static str> {
        special_purpose(canonical_address(address.parse().unwrap()))
    }

    #[test]
    fn public_addresses_have_no_special_purpose() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert_eq!(special_purpose_of(address), None, "{address}");
        }
    }

    #[test]
    fn non_public_addresses_have_special_purpose() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:a9fe:a9fe",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "64:ff9b:1:ffff::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "::ffff:0:127.0.0.1",
        ] {
            assert!(special_purpose_of(address).is_some(), "{address}");
        }
    }

    #[test]
    fn most_specific_network_gives_the_reason() {
        assert_eq!(special_purpose_of("169.254.169.254"), Some("cloud metadata service"));
        assert_eq!(special_purpose_of("255.255.255.255"), Some("broadcast"));
        assert_eq!(special_purpose_of("2001::1"), Some("Teredo tunnel"));
    }
}
