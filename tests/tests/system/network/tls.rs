//! Certificates, and TLS clients of the webhook listener.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Certificate;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use tests::{Server, ServerBuilder};

/// A file of `tests/fixtures/tls`.
macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls/", $name))
    };
}

pub(super) const FIRST_ROOT: &str = pem!("first-ca.pem");
pub(super) const FIRST: [&str; 2] = [pem!("first.pem"), pem!("first.key.pem")];
pub(super) const SECOND_ROOT: &str = pem!("second-ca.pem");
pub(super) const SECOND: [&str; 2] = [pem!("second.pem"), pem!("second.key.pem")];
pub(super) const EXPIRED: [&str; 2] = [pem!("expired.pem"), pem!("expired.key.pem")];

/// Upper limit of a wait, with room for a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Certificate and private key as files in a temporary folder.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new(pair: [&str; 2]) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.write(pair);
        files
    }

    pub(super) fn write(&self, [certificate, key]: [&str; 2]) {
        self.replace("chain.pem", certificate);
        self.replace("key.pem", key);
    }

    /// Replaces a file atomically by a rename.
    pub(super) fn replace(&self, name: &str, text: &str) {
        let new = self.path("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Returns a server setup that polls the files at this interval.
    pub(super) fn setup(&self, folder: &Path, poll: &str) -> ServerBuilder {
        ServerBuilder::new(folder)
            .env("PLUGBOARD_TLS_CERTIFICATE", &self.path("chain.pem"))
            .env("PLUGBOARD_TLS_KEY", &self.path("key.pem"))
            .env("PLUGBOARD_RELOAD_POLL_INTERVAL", poll)
    }
}

pub(super) fn client(root: &str) -> reqwest::ClientBuilder {
    // This call installs the TLS provider.
    _ = tests::client();
    let root = Certificate::from_pem(root.as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([root]).timeout(PATIENCE)
}

/// TLS connection to the webhook listener.
pub(super) struct Connection(pub(super) StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    /// Connects to the server, and fails unless `root` issued its certificate.
    pub(super) fn open(server: &Server, root: &str, protocols: &[&[u8]]) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = TcpStream::connect(server.webhook_address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Self(StreamOwned::new(tls, stream)))
    }

    /// Requests `GET /health`, and returns true if the server answers with 200.
    pub(super) fn is_healthy(&mut self) -> bool {
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        if self.0.write_all(request).is_err() {
            return false;
        }
        let (mut text, mut piece) = (Vec::new(), [0; 1024]);
        while !text.ends_with(b"{\"status\":\"ok\"}") {
            match self.0.read(&mut piece) {
                Ok(length) if length > 0 => text.extend_from_slice(&piece[..length]),
                _ => return false,
            }
        }
        text.starts_with(b"HTTP/1.1 200 OK\r\n")
    }
}
