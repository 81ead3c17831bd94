//! Reading of a certificate and its private key from their files.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::OFlags;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use plugboard_config::TlsConfig;

/// Maximum size of a file, in bytes. A certificate chain has some kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The ALPN name of the protocol within TLS.
const HTTP_1_1: &[u8] = b"http/1.1";

/// The reason why the files cannot be used for TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be opened or read.
    #[error("{key}: cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// The configuration key that names the file.
        key: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The certificate file has no certificate.
    #[error(
        "tls.certificate: there is no certificate in {path}; expected PEM, \
         `-----BEGIN CERTIFICATE-----`, the server's own first",
        path = .0.display()
    )]
    NoCertificate(PathBuf),
    /// The key file has no private key.
    #[error(
        "tls.key: there is no private key in {path}; expected PEM, `-----BEGIN PRIVATE KEY-----`, \
         without a passphrase",
        path = .0.display()
    )]
    NoKey(PathBuf),
    /// A file is not valid PEM.
    #[error("{key}: {path} is not PEM: {source}", path = .path.display())]
    Pem {
        /// The configuration key that names the file.
        key: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The error of the PEM parser.
        source: PemError,
    },
    /// The key is damaged, or has an unsupported type.
    #[error(
        "tls.key: the private key in {path} cannot be used ({source}); expected RSA of 2048 bits \
         or more, ECDSA with P-256 or P-384, or Ed25519",
        path = .path.display()
    )]
    Key {
        /// The path of the file.
        path: PathBuf,
        /// The error of the TLS library.
        source: rustls::Error,
    },
    /// The certificate cannot be parsed.
    #[error("tls.certificate: the first certificate in {path} cannot be used: {source}", path = .path.display())]
    Certificate {
        /// The path of the file.
        path: PathBuf,
        /// The error of the TLS library.
        source: rustls::Error,
    },
    /// The key does not belong to the certificate.
    #[error(
        "tls.key: the private key in {key} does not belong to the first certificate in \
         {certificate}",
        key = .key.display(),
        certificate = .certificate.display()
    )]
    Mismatch {
        /// The path of the key file.
        key: PathBuf,
        /// The path of the certificate file.
        certificate: PathBuf,
    },
    /// The TLS library rejected the configuration.
    #[error("cannot speak TLS: {0}")]
    Internal(rustls::Error),
}

/// A digest of the contents of both files.
pub(super) type FilesDigest = [u8; 32];

/// A certificate with its key, ready for handshakes.
pub(super) struct ServerCertificate {
    /// The configuration of handshakes. Each certificate has its own sessions, so that no
    /// session of another certificate is resumed.
    pub(super) config: Arc<ServerConfig>,
    /// The digest of both files.
    pub(super) digest: FilesDigest,
    /// The time at which the certificate expires, if it is known.
    pub(super) expires: Option<Timestamp>,
}

impl ServerCertificate {
    /// Reads both files. `None`: their digest is `current_digest`. Blocks the thread.
    pub(super) fn read(
        files: &TlsConfig,
        current_digest: Option<FilesDigest>,
    ) -> Result<Option<Self>, TlsError> {
        let certificate = read_file("tls.certificate", &files.certificate)?;
        let key = read_file("tls.key", &files.key)?;
        let mut hash = Sha256::new();
        hash.update(Sha256::digest(&certificate));
        hash.update(Sha256::digest(&key));
        let digest = hash.finalize().into();
        if current_digest == Some(digest) {
            Ok(None)
        } else {
            build_certificate(files, &certificate, &key, digest).map(Some)
        }
    }
}

fn build_certificate(
    files: &TlsConfig,
    certificate: &[u8],
    key: &[u8],
    digest: FilesDigest,
) -> Result<ServerCertificate, TlsError> {
    let TlsConfig { certificate: certificate_path, key: key_path } = files;
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|source| TlsError::Pem {
        key: "tls.certificate",
        path: certificate_path.clone(),
        source,
    })?;
    let Some(expires) = chain.first().map(expiry) else {
        return Err(TlsError::NoCertificate(certificate_path.clone()));
    };
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| match source {
        PemError::NoItemsFound => TlsError::NoKey(key_path.clone()),
        source => TlsError::Pem { key: "tls.key", path: key_path.clone(), source },
    })?;
    let provider = Arc::new(ring::default_provider());
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|source| TlsError::Key { path: key_path.clone(), source })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            let (key, certificate) = (key_path.clone(), certificate_path.clone());
            return Err(TlsError::Mismatch { key, certificate });
        }
        Err(source) => {
            return Err(TlsError::Certificate { path: certificate_path.clone(), source });
        }
    }
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Internal)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(ServerCertificate { config: Arc::new(config), digest, expires })
}

/// Returns the end of a certificate's validity (`notAfter`, RFC 5280, 4.1.2.5), or `None` if
/// the certificate cannot be parsed.
pub(super) fn expiry(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    Timestamp::from_second(end.as_secs().try_into().ok()?).ok()
}

/// Reads a regular file. Reading a pipe would never end.
fn read_file(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let file = OpenOptions::new()
            .read(true)
            // Without this flag, opening a pipe waits for a writer.
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut bytes = Vec::new();
        if file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)? as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")));
        }
        Ok(bytes)
    };
    read().map_err(|source| TlsError::Unreadable { key, path: path.to_owned(), source })
}
