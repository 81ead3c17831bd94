//! Bodies: not larger, not slower and not more of them at a time than there may be.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use bytes::BytesMut;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::super::error::HttpError;
use crate::platform::Bounds;

/// Bodies up to here are read whenever they come, in bytes.
const SMALL: usize = 64 << 10;

/// What larger ones may have together, in KiB: each stands in memory several times over
/// until it is written down.
const TOGETHER: u32 = 128 << 10;

/// What all requests together may have.
pub(in super::super) struct Bodies {
    /// In KiB.
    large: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { large: Arc::new(Semaphore::new(TOGETHER as usize)) }
    }
}

impl Bodies {
    /// Waits for room for a body of so many bytes.
    async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(TOGETHER).min(TOGETHER);
        // Never closed.
        Arc::clone(&self.large).acquire_many_owned(kib).await.ok()
    }
}

/// A body, which holds its place as long as it is there.
pub(in super::super) struct Whole {
    pub(in super::super) bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

/// Reads a body within its bounds.
pub(in super::super) async fn read(
    bodies: &Bodies,
    bounds: &Bounds,
    headers: &HeaderMap,
    mut body: Body,
    start: Instant,
) -> Result<Whole, HttpError> {
    let too_large = || HttpError::too_large(bounds.body, bounds.body_key);
    let until = start + bounds.body_timeout;
    // Refused before it is read, when the sender says how long it is; before it is sent,
    // when the sender waits for leave to.
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    if length > bounds.body {
        if !headers.contains_key(header::EXPECT) {
            hear_out(&mut body, until).await;
        }
        return Err(too_large());
    }
    let read = async {
        let (mut whole, mut only, mut place) = (BytesMut::new(), Bytes::new(), None);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| HttpError::body_unreadable())?.into_data() else {
                continue;
            };
            if whole.is_empty() && only.is_empty() {
                // Most bodies come in one piece.
                only = data;
            } else {
                if whole.is_empty() {
                    whole.extend_from_slice(&std::mem::take(&mut only));
                }
                whole.extend_from_slice(&data);
            }
            let size = whole.len() + only.len();
            if size > bounds.body {
                return Err(too_large());
            }
            if size > SMALL && place.is_none() {
                // All of it at once: two that have a part each would wait for one another.
                let whole = if length > 0 { length } else { bounds.body };
                let room = timeout_at(until, bodies.room(whole)).await;
                place = room.map_err(|_| HttpError::too_many_large_bodies())?;
            }
        }
        let bytes = if whole.is_empty() { only } else { whole.freeze() };
        Ok(Whole { bytes, _place: place })
    };
    let Ok(read) = timeout_at(until, read).await else {
        return Err(HttpError::body_timeout(bounds.body_timeout_key));
    };
    if read.is_err() {
        hear_out(&mut body, until).await;
    }
    read
}

/// Lets a sender finish: whoever is still sending would find the connection closed, and
/// not the answer.
async fn hear_out(body: &mut Body, until: Instant) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    _ = timeout_at(until, rest).await;
}
