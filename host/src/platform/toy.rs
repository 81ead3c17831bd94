//! A platform for tests of what a new one needs: this file, and a line in each of
//! the lists of the module above. It speaks lines of words, and hears some.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use super::{BadRequest, Bounds, Dialect, Message, Reply, Unauthorized};
use crate::config::Config;
use crate::event::{Call, Event, EventBody, Platform, Traits};
use crate::router::Answer;

pub(super) const TOY: Platform = Platform::new(&Traits {
    name: "toy",
    family: "toy",
    takes_url: true,
    can_reject: true,
    asks_for_prompt: false,
    comes_back: false,
    retries: Duration::ZERO,
});

pub(super) fn dialect(_: &Config) -> Option<Arc<dyn Dialect>> {
    Some(Arc::new(Toy))
}

struct Toy;

impl Dialect for Toy {
    fn name(&self) -> &'static str {
        TOY.name
    }

    fn path(&self) -> &'static str {
        "/toy"
    }

    fn bounds(&self) -> Bounds {
        let time = Duration::from_secs(1);
        Bounds {
            body: 100,
            body_key: "none",
            body_timeout: time,
            body_timeout_key: "none",
            tool_timeout: time,
        }
    }

    fn is_open(&self) -> bool {
        false
    }

    fn admit(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        headers.get("x-toy").map(drop).ok_or(Unauthorized("no toy"))
    }

    fn parse(&self, _: &HeaderMap, body: &[u8]) -> Result<Message, BadRequest> {
        let text = String::from_utf8_lossy(body);
        let mut words = text.split_whitespace().map(ToOwned::to_owned);
        let (Some(verb), Some(id)) = (words.next(), words.next()) else {
            return Err(BadRequest { message: "expected a verb and a call".to_owned() });
        };
        let (from, to) = (words.next(), words.next());
        let call = Call { id, platform: TOY, agent: None, from, to, metadata: Vec::new() };
        let event = |body| Event {
            call: Arc::new(call),
            timestamp: Timestamp::UNIX_EPOCH,
            body,
            delivery: None,
        };
        Ok(match verb.as_str() {
            "rings" => Message::Decide(event(EventBody::Initiated)),
            _ => Message::Events(vec![event(EventBody::Started)]),
        })
    }

    fn decision(&self, answer: &Answer) -> Reply {
        let body = match answer {
            Answer::Route { sts_url, .. } => format!("go {}", sts_url.as_deref().unwrap_or("on")),
            Answer::Reject { reason, .. } => format!("stop {reason}"),
            Answer::Fallback { .. } => "go on".to_owned(),
        };
        Reply { status: StatusCode::OK, content_type: "text/plain", body: body.into_bytes() }
    }
}
