//! TLS for outgoing connections: ring, and the root certificates of the machine.

use std::error::Error;

use reqwest::{Client, ClientBuilder};

/// The reason why this machine trusts no certificate, for the operator.
#[derive(Clone, Debug)]
pub struct MissingRootCertificates(String);

impl MissingRootCertificates {
    /// Returns the reason, and the steps that fix it.
    pub fn advice(&self) -> String {
        format!(
            "this machine has no root certificates ({}): install its `ca-certificates`, or name \
             a file of them in SSL_CERT_FILE, and start again",
            self.0
        )
    }
}

/// Creates a client that trusts the machine's root certificates, which are read now. Without
/// root certificates (slim containers), the client works for plain http. It rejects every https
/// server, for the returned reason.
///
/// # Errors
///
/// Fails if the client cannot be built.
pub fn build_client(
    builder: impl Fn() -> ClientBuilder,
) -> Result<(Client, Option<MissingRootCertificates>), reqwest::Error> {
    // reqwest panics without a crypto provider. An error means that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match builder().build() {
        Ok(client) => Ok((client, None)),
        // If the client also fails with an empty set of roots, missing roots are not the
        // reason.
        Err(error) => Ok((
            builder().tls_certs_only([]).build()?,
            Some(MissingRootCertificates(root_cause(&error))),
        )),
    }
}

/// Returns the root cause of an error: the library's own message may contain the URL.
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
        // The first attempt fails, as on a machine without root certificates.
        let fails = Cell::new(true);
        let builder =
            || Client::builder().tls_certs_only(fails.replace(false).then(|| invalid.clone()));
        let (_, no_roots) = build_client(builder).unwrap();
        let advice = no_roots.unwrap().advice();
        assert!(advice.contains("SSL_CERT_FILE"), "{advice}");
        assert!(build_client(|| Client::builder().tls_certs_only([invalid.clone()])).is_err());
    }
}
