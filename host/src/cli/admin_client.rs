//! HTTP client for the admin listener of a running server.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, redirect, retry};

use plugboard_tls::client_roots;

/// Creates a client that connects without a proxy and sends each request once. The time
/// until the response is not limited.
///
/// # Errors
///
/// If the client cannot be built.
pub(super) fn build(connect_timeout: Duration) -> anyhow::Result<Client> {
    let builder = || {
        Client::builder()
            // The admin listener is plain HTTP and needs no root certificate.
            .tls_certs_only([])
            .no_proxy()
            .connect_timeout(connect_timeout)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
    };
    let (client, _) = client_roots::build_client(builder).context("cannot prepare connections")?;
    Ok(client)
}

/// Returns the address at which a listener on `address` can be reached from this machine.
pub(super) fn client_address(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Returns whether the address has no listener.
pub(super) fn is_connection_refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_listener_address_becomes_loopback() {
        let address_for = |address: &str| client_address(address.parse().unwrap()).to_string();
        assert_eq!(address_for("0.0.0.0:9901"), "127.0.0.1:9901");
        assert_eq!(address_for("[::]:9901"), "[::1]:9901");
        assert_eq!(address_for("10.0.0.7:9901"), "10.0.0.7:9901");
    }
}
