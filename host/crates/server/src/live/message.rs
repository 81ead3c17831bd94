//! Messages of the feed: a type and a JSON document. External text is always a JSON string, and
//! callers' numbers are masked unless an operator unmasks them.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::activity::{
    Activity, ActivityKind, DecisionSummary, EventSummary, MidCallKind, MidCallRequest,
    UNKNOWN_TOOL,
};
use super::reload_summary::ReloadSummary;
use plugboard_core::call::Call;
use plugboard_core::call_selector::CallSelector;
use plugboard_core::platforms;
use plugboard_core::units::micros;

/// Number of visible characters of a masked number. A number of fewer than twice as many
/// characters shows none.
const VISIBLE_CHARS: usize = 2;

/// Replacement of the hidden characters, independent of their number.
const MASK: &str = "••••";

/// The masking of callers' numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// Only the last characters are visible.
    Masked,
    /// Numbers are visible as the platform sent them.
    Unmasked,
}

/// A message of the stream.
#[derive(Debug)]
pub struct LiveMessage {
    /// The type of the message.
    pub kind: &'static str,
    /// The message as a JSON document.
    pub data: String,
}

/// An item of the feed.
#[derive(Clone)]
pub enum FeedItem {
    /// An activity of a call.
    Activity(Arc<Activity>),
    /// A reload changed some plugins.
    Reload(Arc<ReloadSummary>),
    /// A call was erased, and must not be shown any more.
    Erased(Arc<ErasedCall>),
    /// The history ends here; new items follow.
    CaughtUp,
    /// The subscriber was too slow, and missed this number of items.
    Missed(u64),
}

/// The identity of an erased call.
#[derive(Debug, PartialEq, Serialize)]
pub struct ErasedCall {
    call: Arc<str>,
    platforms: Vec<&'static str>,
}

impl ErasedCall {
    pub(super) fn new(call: &CallSelector) -> Self {
        let platforms = platforms::all()
            .iter()
            .filter(|platform| call.family().is_none_or(|family| family == platform.family));
        Self {
            call: Arc::clone(call.id()),
            platforms: platforms.map(|platform| platform.name).collect(),
        }
    }
}

impl Masking {
    /// Masks a number if required.
    fn apply(self, number: Option<&str>) -> Option<Cow<'_, str>> {
        let number = number?;
        if self == Self::Unmasked {
            return Some(Cow::Borrowed(number));
        }
        let count = number.chars().count();
        if count < 2 * VISIBLE_CHARS {
            return Some(Cow::Borrowed(MASK));
        }
        let last: String = number.chars().skip(count - VISIBLE_CHARS).collect();
        Some(Cow::Owned(format!("{MASK} {last}")))
    }
}

impl FeedItem {
    /// Renders the item as a message.
    pub fn message(&self, masking: Masking) -> LiveMessage {
        #[derive(Serialize)]
        struct NoFields {}
        #[derive(Serialize)]
        struct MissedCount {
            count: u64,
        }
        match self {
            Self::Activity(activity) => {
                let Activity { call, at, kind: what } = &**activity;
                let document = CallActivityDocument {
                    at: *at,
                    call: &call.id,
                    platform: call.platform.name,
                    activity: ActivityKind::fields(what, call, masking),
                };
                LiveMessage::new(what.message_type(), &document)
            }
            Self::Reload(reload) => LiveMessage::new("reload", &**reload),
            Self::Erased(erased) => LiveMessage::new("erased", &**erased),
            Self::CaughtUp => LiveMessage::new("caught_up", &NoFields {}),
            Self::Missed(count) => LiveMessage::new("missed", &MissedCount { count: *count }),
        }
    }
}

impl LiveMessage {
    fn new(kind: &'static str, document: &impl Serialize) -> Self {
        // Serialization fails only for maps whose keys are not strings, and no document has
        // one.
        Self { kind, data: serde_json::to_string(document).unwrap_or_default() }
    }
}

#[derive(Serialize)]
struct CallActivityDocument<'a> {
    at: Timestamp,
    call: &'a str,
    platform: &'static str,
    #[serde(flatten)]
    activity: ActivityFields<'a>,
}

/// The fields of an activity that are shown.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum ActivityFields<'a> {
    Decision {
        agent: Option<&'a str>,
        from: Option<Cow<'a, str>>,
        to: Option<Cow<'a, str>>,
        plugin: Option<&'a str>,
        outcome: &'static str,
        source: &'static str,
        failures: u32,
        took_us: u64,
    },
    MidCallRequest {
        kind: MidCallKind,
        name: Option<&'a str>,
        plugin: Option<&'a str>,
        outcome: &'static str,
        took_us: u64,
    },
    Event {
        kind: &'static str,
        detail: Option<&'a str>,
    },
}

impl ActivityKind {
    /// Returns the type of the message.
    pub(super) fn message_type(&self) -> &'static str {
        match self {
            Self::Decision(_) => "decision",
            Self::MidCallRequest(_) => "mid_call_request",
            Self::Event(_) => "event",
        }
    }

    pub(super) fn fields<'a>(&'a self, call: &'a Call, masking: Masking) -> ActivityFields<'a> {
        match self {
            Self::Decision(DecisionSummary { plugin, outcome, source, failures, took, .. }) => {
                let [from, to] = mask_parties(call, masking);
                ActivityFields::Decision {
                    agent: call.agent.as_deref(),
                    from,
                    to,
                    plugin: plugin.as_deref(),
                    outcome,
                    source,
                    failures: *failures,
                    took_us: micros(*took),
                }
            }
            Self::MidCallRequest(MidCallRequest { kind, name, plugin, outcome, took }) => {
                ActivityFields::MidCallRequest {
                    kind: *kind,
                    // An agent can invent any name, also a number.
                    name: name
                        .as_deref()
                        .filter(|_| masking == Masking::Unmasked || *outcome != UNKNOWN_TOOL),
                    plugin: plugin.as_deref(),
                    outcome,
                    took_us: micros(*took),
                }
            }
            Self::Event(EventSummary { kind, detail, .. }) => {
                ActivityFields::Event { kind, detail: detail.as_deref() }
            }
        }
    }
}

/// Returns the numbers of a call, masked if required.
pub(super) fn mask_parties(call: &Call, masking: Masking) -> [Option<Cow<'_, str>>; 2] {
    [&call.from, &call.to].map(|number| masking.apply(number.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_number_shows_only_last_two_characters() {
        let masked = |number| Masking::Masked.apply(Some(number)).unwrap().into_owned();
        assert_eq!(masked("+14155550199"), "•••• 99");
        assert_eq!(masked("2000"), "•••• 00");
        assert_eq!(masked("+499"), "•••• 99");
        assert_eq!(masked("299"), "••••");
        assert_eq!(masked(""), "••••");
        assert_eq!(masked("sip:zoë@é"), "•••• @é");
        assert_eq!(Masking::Masked.apply(None), None);
        assert_eq!(Masking::Unmasked.apply(Some("2000")).as_deref(), Some("2000"));
    }
}
