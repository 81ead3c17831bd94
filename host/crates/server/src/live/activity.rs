//! What is told of a call, as cheaply as can be: words of the program, and what is
//! shared anyway.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use plugboard_core::call::Call;
use plugboard_core::event::{CallOutcome, Event, EventBody, Role};
use plugboard_core::outcome::{Answer, RoutingOutcome};
use plugboard_core::text::truncate;

/// Bytes of a call that are kept as they are; of a heavier one, a copy is made
/// without what is not shown.
const MAX_SHARED_CALL_BYTES: usize = 4 << 10;

/// Of a heavy call's texts, and of names that come from outside, what is kept, in bytes.
const MAX_TEXT_BYTES: usize = 128;

/// Something that happened in a call.
pub struct Activity {
    /// The call.
    pub call: Arc<Call>,
    /// When, by our clock.
    pub at: Timestamp,
    /// What.
    pub kind: ActivityKind,
}

/// What happened.
pub enum ActivityKind {
    /// It was decided where the call goes.
    Decision(DecisionSummary),
    /// The platform asked something in the middle of the call.
    MidCallRequest(MidCallRequest),
    /// The platform told of something.
    Event(EventSummary),
}

/// A decision.
pub struct DecisionSummary {
    /// Who decided, or stopped the chain.
    pub plugin: Option<Arc<str>>,
    /// As in the log.
    pub outcome: &'static str,
    /// Where the word came from.
    pub source: &'static str,
    /// Plugins that failed on the way.
    pub failures: u32,
    /// Whether the voice agent was given a prompt.
    pub has_prompt: bool,
    /// Whether there will be no such call: it was rejected, and the platform can.
    pub is_rejected: bool,
    /// Until the answer was there.
    pub took: Duration,
}

/// The word for a delivery that comes again, and is answered as before.
pub const REPLAYED: &str = "repeated";

/// The word for a tool that no plugin has.
pub const UNKNOWN_TOOL: &str = "unknown";

/// A tool or a transfer.
pub struct MidCallRequest {
    /// Which of them.
    pub kind: MidCallKind,
    /// Of a tool.
    pub name: Option<Box<str>>,
    /// Who answered.
    pub plugin: Option<Arc<str>>,
    /// What came of it.
    pub outcome: &'static str,
    /// Until the answer was there.
    pub took: Duration,
}

/// What is asked in the middle of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MidCallKind {
    /// A tool.
    Tool,
    /// A transfer.
    Transfer,
}

/// An event, without what was said in it.
pub struct EventSummary {
    /// Its kind.
    pub kind: &'static str,
    /// Who spoke, which tool, how it ended.
    pub detail: Option<Cow<'static, str>>,
    /// Whether the call is over.
    pub ends_call: bool,
}

impl Activity {
    /// Of something that happens now.
    pub(super) fn new(call: &Arc<Call>, kind: ActivityKind) -> Self {
        Self { call: shrink_call(call), at: Timestamp::now(), kind }
    }
}

impl DecisionSummary {
    /// Of what became of a call, and whether that was asked before.
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

    /// Whether the platform asked for the same once more.
    pub(super) fn is_replayed(&self) -> bool {
        self.source == REPLAYED
    }
}

impl MidCallRequest {
    /// Of a use of the tool of this name.
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

    /// Of a transfer.
    pub fn transfer(plugin: Option<Arc<str>>, outcome: &'static str, took: Duration) -> Self {
        Self { kind: MidCallKind::Transfer, name: None, plugin, outcome, took }
    }
}

impl EventSummary {
    /// Of an event, of which nothing is shown that somebody said or pressed.
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
    /// Whether nothing is to come of the call.
    pub(super) fn ends_call(&self) -> bool {
        match self {
            Self::Decision(decision) => decision.is_rejected,
            Self::Event(event) => event.ends_call,
            Self::MidCallRequest(_) => false,
        }
    }
}

/// The call itself, unless it holds much memory.
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
        // Whole, as it is what the call is known by; dialects bound it.
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
