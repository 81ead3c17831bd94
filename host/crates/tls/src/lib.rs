//! TLS: the certificate of the webhook listener and its renewal; root certificates for clients.
//!
//! [`Tls`] reads certificate and key again at each `reload.poll_interval`, on SIGHUP and on
//! `POST /reload`, and compares their digest. A pair that matches replaces the current one for
//! later handshakes; open connections keep theirs. A pair that does not match changes nothing,
//! and its error is stored so that it is logged once. While only one of the two files is new,
//! they do not match, so a half-finished renewal never serves.

#![forbid(unsafe_code)]

mod certificate;
pub mod client_roots;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::metrics::counter::Counter;
use rustls::ServerConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use self::certificate::ServerCertificate;
pub use self::certificate::TlsError;
use plugboard_config::TlsConfig;

/// Time before the expiry of a certificate at which warnings begin. Automatic renewal usually
/// happens a month before (Let's Encrypt).
const EXPIRY_NOTICE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Minimum interval of warnings of the same expiry.
const REMINDER_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Counters of the changes of the certificate's files; clones share them.
#[derive(Clone, Debug, Default)]
pub struct CertificateCounters {
    /// Number of certificates that replaced another one.
    pub renewed: Counter,
    /// Number of changes of the files that could not be used.
    pub rejected: Counter,
}

/// The current certificate of the listener.
pub struct Tls {
    files: TlsConfig,
    current: ArcSwap<ServerCertificate>,
    /// The state of the log, locked while the files are read.
    report_state: Mutex<ReportState>,
}

/// The messages that were logged.
#[derive(Default)]
struct ReportState {
    /// The reason why the present files are not used.
    last_error: Option<String>,
    /// Time of the last warning of the expiry.
    expiry_warned_at: Option<Instant>,
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    ///
    /// Fails if the files cannot be read or used.
    pub fn load(files: &TlsConfig) -> Result<Self, TlsError> {
        let Some(pair) = ServerCertificate::read(files, None)? else {
            // There is no current digest, so the files cannot be unchanged.
            return Err(TlsError::NoCertificate(files.certificate.clone()));
        };
        let (current, report_state) = (ArcSwap::from_pointee(pair), Mutex::default());
        Ok(Self { files: files.clone(), current, report_state })
    }

    /// Returns the warning if the certificate has expired or will soon.
    pub fn expiry_warning(&self, now: Timestamp) -> Option<String> {
        let (end, path) = (self.current.load().expires?, self.files.certificate.display());
        let left = end.duration_since(now);
        if left <= SignedDuration::ZERO {
            Some(format!(
                "the certificate in {path} (tls.certificate) expired at {end}: clients that verify \
                 it do not connect; replace it"
            ))
        } else if left < EXPIRY_NOTICE {
            let days = left.as_hours() / 24;
            Some(format!(
                "the certificate in {path} (tls.certificate) expires at {end}, in {days} days; \
                 replace it"
            ))
        } else {
            None
        }
    }

    /// Returns the configuration for handshakes from now on.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// Reloads the certificate at the interval `poll` and on SIGHUP, if its files changed,
    /// until `stop` is cancelled. A reload in progress is then abandoned.
    pub async fn watch(
        self: Arc<Self>,
        poll: Duration,
        counters: CertificateCounters,
        stop: CancellationToken,
    ) {
        stop.run_until_cancelled(self.watch_files(poll, &counters)).await;
    }

    async fn watch_files(&self, poll: Duration, counters: &CertificateCounters) {
        self.warn_before_expiry(&mut *self.report_state.lock().await);
        let mut poll = interval_at(Instant::now() + poll, poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hangups = signal(SignalKind::hangup())
            .inspect_err(|error| tracing::warn!(%error, "SIGHUP will not reload the certificate"))
            .ok();
        loop {
            let hangup = async {
                match &mut hangups {
                    Some(hangups) => _ = hangups.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = poll.tick() => {}
                () = hangup => {}
            }
            self.reload(counters).await;
        }
    }

    /// Reads the files, and makes their certificate the current one if it changed.
    pub async fn reload(&self, counters: &CertificateCounters) {
        let mut state = self.report_state.lock().await;
        let (files, current_digest) = (self.files.clone(), self.current.load().digest);
        let Ok(read) =
            spawn_blocking(move || ServerCertificate::read(&files, Some(current_digest))).await
        else {
            tracing::error!("Plugboard panicked while it read the certificate; please report it");
            return;
        };
        match read {
            Ok(None) => {
                if state.last_error.take().is_some() {
                    tracing::info!("the certificate files match the serving certificate again");
                }
            }
            Ok(Some(pair)) => {
                let end = pair.expires.map(tracing::field::display);
                let file = self.files.certificate.display();
                tracing::info!(%file, end, "certificate renewed");
                self.current.store(Arc::new(pair));
                counters.renewed.inc();
                *state = ReportState::default();
            }
            Err(error) => {
                let message = error.to_string();
                // The error is logged once, not at every reload.
                if state.last_error.as_ref() != Some(&message) {
                    tracing::error!(
                        "cannot renew the certificate, the previous one stays: {message}"
                    );
                    counters.rejected.inc();
                    state.last_error = Some(message);
                }
            }
        }
        self.warn_before_expiry(&mut state);
    }

    /// Logs a warning of the certificate's expiry, once a day.
    fn warn_before_expiry(&self, state: &mut ReportState) {
        if state.expiry_warned_at.is_some_and(|end| end.elapsed() < REMINDER_INTERVAL) {
            return;
        }
        if let Some(warning) = self.expiry_warning(Timestamp::now()) {
            tracing::warn!("{warning}");
            state.expiry_warned_at = Some(Instant::now());
        }
    }
}
