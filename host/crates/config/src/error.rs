//! Errors of the configuration, for operators.

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::toml_error::TomlError;
use plugboard_core::sts_url::StsUrlError;

/// A configuration that the server cannot start with.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The configuration file is not valid TOML, or has an invalid key or value.
    #[error(transparent)]
    Toml(#[from] TomlError),
    /// An environment variable has an invalid value.
    #[error("environment variable {name}: {message}")]
    Environment {
        /// The variable.
        name: String,
        /// The reason, with the expected form.
        message: String,
    },
    /// `WEBHOOK_SECRET` and `PLUGBOARD_SECRET` differ.
    #[error("WEBHOOK_SECRET and PLUGBOARD_SECRET are set to different values; set only one")]
    ConflictingSecrets,
    /// The webhook listener is reachable from other machines without authentication.
    #[error(
        "listen = \"{listen}\" is reachable from other machines, and one platform has no secret; \
         set {what}, or `allow_unauthenticated = true` if a proxy or firewall restricts access"
    )]
    Unauthenticated {
        /// The address.
        listen: SocketAddr,
        /// The keys that set a secret for the platform.
        what: &'static str,
    },
    /// The admin listener is reachable from other machines without authentication.
    #[error(
        "admin = \"{0}\" is reachable from other machines, and admin_token is not set; set it, or \
         use 127.0.0.1"
    )]
    UnauthenticatedAdmin(SocketAddr),
    /// One of the operator's STS URLs is invalid.
    #[error("{key}: {source}")]
    StsUrl {
        /// `fallback_sts_url` or `reject_sts_url`.
        key: &'static str,
        /// The reason.
        source: StsUrlError,
    },
    /// One of the operator's STS URLs has a placeholder that some calls cannot fill.
    #[error(
        "{0}: expected no placeholders but {{id}}, {{platform}}, {{agent}}, {{from}} and {{to}}, \
         which every call can fill"
    )]
    StsUrlNotUniversal(&'static str),
    /// A value is out of bounds, or contradicts another one.
    #[error("{key}: {message}")]
    InvalidValue {
        /// The key, with its table.
        key: &'static str,
        /// The expected value.
        message: String,
    },
}

impl ConfigError {
    pub(crate) fn invalid(key: &'static str, message: impl Into<String>) -> Self {
        Self::InvalidValue { key, message: message.into() }
    }
}
