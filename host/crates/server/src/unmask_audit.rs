//! Audit log of operators that unmask callers' numbers.

use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::listener::Peer;
use super::live::Masking;

/// Minimum interval of audit messages about the same operator.
const AUDIT_INTERVAL: Duration = Duration::from_secs(60);

/// The audit log, with the last operator that saw unmasked numbers. An open page sends a
/// request every two seconds, so the log is rate-limited.
#[derive(Default)]
pub(super) struct UnmaskAudit(Mutex<Option<(IpAddr, Instant)>>);

impl UnmaskAudit {
    pub(super) fn record(&self, masking: Masking, Peer(peer): Peer) {
        if masking == Masking::Masked {
            return;
        }
        let now = Instant::now();
        let mut last = self.0.lock();
        if last.is_none_or(|(last_peer, at)| last_peer != peer || now >= at + AUDIT_INTERVAL) {
            *last = Some((peer, now));
            tracing::info!(%peer, "caller numbers unmasked for an operator");
        }
    }
}
