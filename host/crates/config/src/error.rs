//! The reasons why a configuration is refused, worded for operators.

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
    #[error("WEBHOOK_SECRET and PLUGBOARD_SECRET are both set, and differ; set one")]
    ConflictingSecrets,
    /// The webhook listener is reachable from other machines without authentication.
    #[error(
        "listen = \"{listen}\" can be reached from other machines, and no secret is set for one \
         platform; set {what}, or `allow_unauthenticated = true` when something in front of \
         Plugboard keeps others out"
    )]
    Unauthenticated {
        /// The address.
        listen: SocketAddr,
        /// The keys that set a secret for the platform.
        what: &'static str,
    },
    /// The admin listener is reachable from other machines without authentication.
    #[error(
        "admin = \"{0}\" can be reached from other machines, and no admin_token is set; set one, \
         or listen on 127.0.0.1"
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
        "{0}: only {{id}}, {{platform}}, {{agent}}, {{from}} and {{to}} may stand in it, for it \
         must fit every call"
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
