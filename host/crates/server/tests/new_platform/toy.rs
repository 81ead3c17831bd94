//! A minimal platform. It posts lines of words, and receives lines.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use plugboard_config::credentials::Unauthorized;
use plugboard_core::call::Call;
use plugboard_core::event::{Event, EventBody};
use plugboard_core::outcome::Answer;
use plugboard_core::platforms::{Platform, PlatformInfo};
use plugboard_platform::{BadRequest, PlatformAdapter, PlatformRequest, Reply, RequestLimits};

pub(crate) const TOY: Platform = Platform::new(&PlatformInfo {
    name: "toy",
    family: "toy",
    accepts_sts_url: true,
    can_reject: true,
    fetches_prompt: false,
    supports_mid_call: false,
    redelivery_window: Duration::ZERO,
});

pub(crate) struct ToyAdapter;

impl PlatformAdapter for ToyAdapter {
    fn name(&self) -> &'static str {
        TOY.name
    }

    fn path(&self) -> &'static str {
        "/toy"
    }

    fn request_limits(&self) -> RequestLimits {
        let time = Duration::from_secs(1);
        RequestLimits {
            max_body: 100,
            max_body_key: "none",
            body_timeout: time,
            body_timeout_key: "none",
            tool_timeout: time,
        }
    }

    fn is_unauthenticated(&self) -> bool {
        false
    }

    fn check_headers(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        headers.get("x-toy").map(drop).ok_or(Unauthorized("no toy"))
    }

    fn parse(&self, _: &HeaderMap, body: &[u8]) -> Result<PlatformRequest, BadRequest> {
        let text = String::from_utf8_lossy(body);
        let mut words = text.split_whitespace().map(ToOwned::to_owned);
        let (Some(verb), Some(id)) = (words.next(), words.next()) else {
            return Err(BadRequest { message: "expected a verb and a call".to_owned() });
        };
        let (from, to) = (words.next(), words.next());
        let call =
            Call { id: id.into(), platform: TOY, agent: None, from, to, metadata: Vec::new() };
        let event = |body| Event {
            call: Arc::new(call),
            timestamp: Timestamp::UNIX_EPOCH,
            body,
            delivery_id: None,
        };
        Ok(match verb.as_str() {
            "rings" => PlatformRequest::Decision(event(EventBody::Initiated)),
            _ => PlatformRequest::Events(vec![event(EventBody::Started)]),
        })
    }

    fn decision_reply(&self, answer: &Answer) -> Reply {
        let body = match answer {
            Answer::Route { sts_url, .. } => format!("go {}", sts_url.as_deref().unwrap_or("on")),
            Answer::Reject { reason, .. } => format!("stop {reason}"),
            Answer::Fallback { .. } => "go on".to_owned(),
        };
        Reply { status: StatusCode::OK, content_type: "text/plain", body: body.into_bytes() }
    }
}
