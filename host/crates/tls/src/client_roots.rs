//! TLS for outgoing connections: ring, and the root certificates of the machine.

use std::error::Error;

use reqwest::{Client, ClientBuilder};

/// Why no certificate is trusted on this machine, for the one who can mend it.
#[derive(Clone, Debug)]
pub struct MissingRootCertificates(String);

impl MissingRootCertificates {
    /// What was found instead of root certificates, and what to do.
    pub fn advice(&self) -> String {
        format!(
            "this machine has no root certificates ({}): install its `ca-certificates`, or name \
             a file of them in SSL_CERT_FILE, and start again",
            self.0
        )
    }
}

/// Makes a client that trusts the machine's root certificates, which are read
/// now. Where there are none (slim containers), it is made nevertheless: plain
/// http works, and every https server is refused, for the reason that is returned.
///
/// # Errors
///
/// What `builder` asks for cannot be had.
pub fn build_client(
    builder: impl Fn() -> ClientBuilder,
) -> Result<(Client, Option<MissingRootCertificates>), reqwest::Error> {
    // reqwest panics without one. An error says that there is one already, which
    // is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match builder().build() {
        Ok(client) => Ok((client, None)),
        // Does it fail with an empty set of roots too, then not for their want.
        Err(error) => Ok((
            builder().tls_certs_only([]).build()?,
            Some(MissingRootCertificates(root_cause(&error))),
        )),
    }
}

/// What is at the bottom of an error: the library's own words may have the URL in them.
pub fn root_cause(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use reqwest::Certificate;

    use super::*;

    #[test]
    fn client_is_built_without_root_certificates() {
        let invalid = Certificate::from_der(b"nothing").unwrap();
        // Fails at first, as it does where there are no roots.
        let fails = Cell::new(true);
        let builder =
            || Client::builder().tls_certs_only(fails.replace(false).then(|| invalid.clone()));
        let (_, no_roots) = build_client(builder).unwrap();
        let advice = no_roots.unwrap().advice();
        assert!(advice.contains("SSL_CERT_FILE"), "{advice}");
        assert!(build_client(|| Client::builder().tls_certs_only([invalid.clone()])).is_err());
    }
}
