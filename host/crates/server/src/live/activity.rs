//! Activities of calls, as operators see them. Creating one is cheap: it holds static names and
//! shared data.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use plugboard_core::call::Call;
use plugboard_core::event::{CallOutcome, Event, EventBody, Role};
use plugboard_core::outcome::{Answer, RoutingOutcome};
use plugboard_core::text::truncate;

/// Maximum size of a call that an activity shares, in bytes. A larger call is copied without
/// the fields that are not shown.
const MAX_SHARED_CALL_BYTES: usize = 4 << 10;

/// Maximum length of a text of a trimmed call, and of an external name, in bytes.
const MAX_TEXT_BYTES: usize = 128;

/// An activity of a call.
pub struct Activity {
    /// The call of the activity.
    pub call: Arc<Call>,
    /// The time by the host's clock.
    pub at: Timestamp,
    /// The kind of activity, with its details.
    pub kind: ActivityKind,
}

/// The kind of an activity.
pub enum ActivityKind {
    /// The call was routed.
    Decision(DecisionSummary),
    /// The platform requested a tool or a transfer.
    MidCallRequest(MidCallRequest),
    /// The platform reported an event.
    Event(EventSummary),
}

/// The summary of a decision.
pub struct DecisionSummary {
    /// The plugin that decided or stopped the chain.
    pub plugin: Option<Arc<str>>,
    /// The outcome, as in the log.
    pub outcome: &'static str,
    /// The source of the answer.
    pub source: &'static str,
    /// The number of plugins that failed in this decision.
    pub failures: u32,
    /// True if the voice agent got a prompt.
    pub has_prompt: bool,
    /// True if the platform rejects the call.
    pub is_rejected: bool,
    /// The time from the request to the answer.
    pub took: Duration,
}

/// The source of a replayed decision.
pub const REPLAYED: &str = "replayed";

/// The outcome for a tool that no plugin has.
pub const UNKNOWN_TOOL: &str = "unknown";

/// The summary of a tool or transfer request.
pub struct MidCallRequest {
    /// The kind of the request: tool or transfer.
    pub kind: MidCallKind,
    /// The name of the tool.
    pub name: Option<Box<str>>,
    /// The plugin that answered.
    pub plugin: Option<Arc<str>>,
    /// The outcome of the request.
    pub outcome: &'static str,
    /// The time from the request to the answer.
    pub took: Duration,
}

/// The kind of a mid-call request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MidCallKind {
    /// A tool request of a voice agent.
    Tool,
    /// A transfer request of the platform.
    Transfer,
}

/// The summary of an event, without its content.
pub struct EventSummary {
    /// The kind of the event.
    pub kind: &'static str,
    /// The speaker, the name of the tool, or the outcome of the call.
    pub detail: Option<Cow<'static, str>>,
    /// True if the call has ended.
    pub ends_call: bool,
}

impl Activity {
    /// Creates an activity with the current time.
    pub(super) fn new(call: &Arc<Call>, kind: ActivityKind) -> Self {
        Self { call: shrink_call(call), at: Timestamp::now(), kind }
    }
}

impl DecisionSummary {
    /// Creates the summary of an outcome. `is_replay`: a redelivery got the earlier answer.
    pub fn new(call: &Call, outcome: &RoutingOutcome, is_replay: bool, took: Duration) -> Self {
        let RoutingOutcome { answer, result: ruling } = outcome;
        let source = if is_replay { REPLAYED } else { ruling.source.name() };
        Self {
            plugin: ruling.plugin.clone(),
            outcome: answer.name(),
            source,
            failures: ruling.failures,
            has_prompt: matches!(answer, Answer::Route { prompt: Some(_), .. }),
            is_rejected: call.platform.can_reject && matches!(answer, Answer::Reject { .. }),
            took,
        }
    }

    /// Returns whether this is the replay of an earlier decision.
    pub(super) fn is_replayed(&self) -> bool {
        self.source == REPLAYED
    }
}

impl MidCallRequest {
    /// Creates the summary of a tool request.
    pub fn tool(
        name: &str,
        plugin: Option<Arc<str>>,
        outcome: &'static str,
        took: Duration,
    ) -> Self {
        Self {
            kind: MidCallKind::Tool,
            name: Some(truncate(name, MAX_TEXT_BYTES).into()),
            plugin,
            outcome,
            took,
        }
    }

    /// Creates the summary of a transfer request.
    pub fn transfer(plugin: Option<Arc<str>>, outcome: &'static str, took: Duration) -> Self {
        Self { kind: MidCallKind::Transfer, name: None, plugin, outcome, took }
    }
}

impl EventSummary {
    /// Creates the summary of an event. It contains no speech and no digits.
    pub(super) fn new(event: &Event) -> Self {
        let shorten = |text: &str| Some(Cow::Owned(truncate(text, MAX_TEXT_BYTES).into_owned()));
        let detail = match &event.body {
            EventBody::Transcription { role: Role::User, .. } => Some(Cow::Borrowed("user")),
            EventBody::Transcription { role: Role::Agent, .. } => Some(Cow::Borrowed("agent")),
            EventBody::ToolInvoked { name, .. } => shorten(name),
            EventBody::Other { kind, .. } => shorten(kind),
            EventBody::Ended(ending) => match ending.outcome {
                CallOutcome::Unknown => None,
                CallOutcome::Completed => Some(Cow::Borrowed("completed")),
                CallOutcome::Failed => Some(Cow::Borrowed("failed")),
                CallOutcome::Canceled => Some(Cow::Borrowed("canceled")),
            },
            EventBody::Initiated
            | EventBody::Routed(_)
            | EventBody::Started
            | EventBody::Interruption
            | EventBody::DtmfDigit(_)
            | EventBody::Error(_) => None,
        };
        let ends_call = matches!(event.body, EventBody::Ended(_));
        Self { kind: event.body.kind().name(), detail, ends_call }
    }
}

impl From<EventSummary> for ActivityKind {
    fn from(summary: EventSummary) -> Self {
        Self::Event(summary)
    }
}

impl ActivityKind {
    /// Returns whether the call ends with this activity.
    pub(super) fn ends_call(&self) -> bool {
        match self {
            Self::Decision(decision) => decision.is_rejected,
            Self::Event(event) => event.ends_call,
            Self::MidCallRequest(_) => false,
        }
    }
}

/// Shares a small call, and trims a large one.
fn shrink_call(call: &Arc<Call>) -> Arc<Call> {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let mut weight = call.id.len() + length(&call.agent) + length(&call.from) + length(&call.to);
    for (name, value) in &call.metadata {
        if weight > MAX_SHARED_CALL_BYTES {
            break;
        }
        weight += size_of::<(String, String)>() + name.len() + value.get().len();
    }
    if weight <= MAX_SHARED_CALL_BYTES {
        return Arc::clone(call);
    }
    let shorten = |text: &Option<String>| {
        text.as_deref().map(|text| truncate(text, MAX_TEXT_BYTES).into_owned())
    };
    Arc::new(Call {
        // The id is kept in full, because it identifies the call. The adapters limit its
        // length.
        id: call.id.clone(),
        platform: call.platform,
        agent: shorten(&call.agent),
        from: shorten(&call.from),
        to: shorten(&call.to),
        metadata: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugboard_core::testing::call;

    #[test]
    fn small_call_is_shared_and_large_call_is_trimmed() {
        let small = Arc::new(call("2000", "5001", r#"{"a":"b"}"#));
        assert!(Arc::ptr_eq(&shrink_call(&small), &small));
        let metadata = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_SHARED_CALL_BYTES));
        let heavy = Arc::new(call("2000", "5001", &metadata));
        let trimmed = shrink_call(&heavy);
        assert!(trimmed.metadata.is_empty());
        assert_eq!((&trimmed.id, trimmed.from.as_deref()), (&heavy.id, Some("2000")));
        let long = Arc::new(call(&"1".repeat(MAX_SHARED_CALL_BYTES), "5001", "{}"));
        assert!(
            shrink_call(&long).from.as_ref().is_some_and(|from| from.len() < MAX_TEXT_BYTES + 4)
        );
    }
}
