//! Reading of request bodies, with limits on size, time, and the memory of all bodies together.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use bytes::BytesMut;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::error::ErrorResponse;
use plugboard_platform::RequestLimits;

/// Bodies of this size, in bytes, need no budget.
const MAX_UNBUDGETED_BYTES: usize = 64 << 10;

/// Budget of all larger bodies together, in KiB. A body occupies several times its size in
/// memory until its events are stored.
const BUDGET_KIB: u32 = 128 << 10;

/// The memory budget of all requests.
pub(super) struct BodyBudget {
    /// One permit for each KiB of the budget.
    permits: Arc<Semaphore>,
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(BUDGET_KIB as usize)) }
    }
}

impl BodyBudget {
    /// Waits for the budget of a body of this size.
    async fn acquire(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(BUDGET_KIB).min(BUDGET_KIB);
        // This fails only if the semaphore is closed, which never happens.
        Arc::clone(&self.permits).acquire_many_owned(kib).await.ok()
    }
}

/// A body, which holds its budget until it is dropped.
pub(super) struct BufferedBody {
    pub(super) bytes: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Reads a body within its limits.
pub(super) async fn read_body(
    budget: &BodyBudget,
    bounds: &RequestLimits,
    headers: &HeaderMap,
    mut body: Body,
    start: Instant,
) -> Result<BufferedBody, ErrorResponse> {
    let too_large = || ErrorResponse::too_large(bounds.max_body, bounds.max_body_key);
    let deadline = start + bounds.body_timeout;
    // Reject by the declared length before the body is read, and before it is sent if the
    // sender expects `100 Continue`.
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    if length > bounds.max_body {
        if !headers.contains_key(header::EXPECT) {
            drain(&mut body, deadline).await;
        }
        return Err(too_large());
    }
    let read = async {
        let (mut buffer, mut single_frame, mut permit) = (BytesMut::new(), Bytes::new(), None);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| ErrorResponse::body_unreadable())?.into_data() else {
                continue;
            };
            if buffer.is_empty() && single_frame.is_empty() {
                // Most bodies arrive in one frame.
                single_frame = data;
            } else {
                if buffer.is_empty() {
                    buffer.extend_from_slice(&std::mem::take(&mut single_frame));
                }
                buffer.extend_from_slice(&data);
            }
            let size = buffer.len() + single_frame.len();
            if size > bounds.max_body {
                return Err(too_large());
            }
            if size > MAX_UNBUDGETED_BYTES && permit.is_none() {
                // Acquire all of it at once: two bodies with partial budgets would wait
                // for each other.
                let reserved_bytes = if length > 0 { length } else { bounds.max_body };
                let acquired = timeout_at(deadline, budget.acquire(reserved_bytes)).await;
                permit = acquired.map_err(|_| ErrorResponse::too_many_large_bodies())?;
            }
        }
        let bytes = if buffer.is_empty() { single_frame } else { buffer.freeze() };
        Ok(BufferedBody { bytes, _permit: permit })
    };
    let Ok(read) = timeout_at(deadline, read).await else {
        return Err(ErrorResponse::body_timeout(bounds.body_timeout_key));
    };
    if read.is_err() {
        drain(&mut body, deadline).await;
    }
    read
}

/// Reads and drops the rest of a body. Otherwise the sender, still sending, would see a
/// closed connection instead of the response.
async fn drain(body: &mut Body, deadline: Instant) {
    let remaining = async { while let Some(Ok(_)) = body.frame().await {} };
    _ = timeout_at(deadline, remaining).await;
}
