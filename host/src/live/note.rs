//! What is told of a call, as cheaply as can be: words of the program, and what is
//! shared anyway.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::capability::log::cut;
use crate::event::{Call, CallOutcome, Event, EventBody, Role};
use crate::router::{Answer, Outcome};

/// Bytes of a call that are kept as they are; of a heavier one, a copy is made
/// without what is not shown.
const LIGHT: usize = 4 << 10;

/// Of a heavy call's texts, and of names that come from outside, what is kept, in bytes.
const TEXT: usize = 128;

/// Something that happened in a call.
pub struct Note {
    /// The call.
    pub call: Arc<Call>,
    /// When, by our clock.
    pub at: Timestamp,
    /// What.
    pub what: What,
}

/// What happened.
pub enum What {
    /// It was decided where the call goes.
    Decision(Decision),
    /// The platform asked something in the middle of the call.
    Use(Use),
    /// The platform told of something.
    Event(Happening),
}

/// A decision.
pub struct Decision {
    /// Who decided, or stopped the chain.
    pub plugin: Option<Arc<str>>,
    /// As in the log.
    pub outcome: &'static str,
    /// Where the word came from.
    pub source: &'static str,
    /// Plugins that failed on the way.
    pub failures: u32,
    /// Whether the voice agent was given a prompt.
    pub prompt: bool,
    /// Whether there will be no such call: it was rejected, and the platform can.
    pub refused: bool,
    /// Until the answer was there.
    pub took: Duration,
}

/// The word for a delivery that comes again, and is answered as before.
pub const REPEATED: &str = "repeated";

/// The word for a tool that no plugin has.
pub const UNKNOWN: &str = "unknown";

/// A tool or a transfer.
pub struct Use {
    /// Which of them.
    pub what: Used,
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
pub enum Used {
    /// A tool.
    Tool,
    /// A transfer.
    Transfer,
}

/// An event, without what was said in it.
pub struct Happening {
    /// Its kind.
    pub kind: &'static str,
    /// Who spoke, which tool, how it ended.
    pub detail: Option<Cow<'static, str>>,
    /// Whether the call is over.
    pub ends: bool,
}

impl Note {
    /// Of something that happens now.
    pub(super) fn new(call: &Arc<Call>, what: What) -> Self {
        Self { call: light(call), at: Timestamp::now(), what }
    }
}

impl Decision {
    /// Of what became of a call, and whether that was asked before.
    pub fn new(call: &Call, outcome: &Outcome, again: bool, took: Duration) -> Self {
        let Outcome { answer, ruling } = outcome;
        let source = if again { REPEATED } else { ruling.source.name() };
        Self {
            plugin: ruling.by.clone(),
            outcome: answer.name(),
            source,
            failures: ruling.failures,
            prompt: matches!(answer, Answer::Route { prompt: Some(_), .. }),
            refused: call.platform.can_reject && matches!(answer, Answer::Reject { .. }),
            took,
        }
    }

    /// Whether the platform asked for the same once more.
    pub(super) fn is_repeated(&self) -> bool {
        self.source == REPEATED
    }
}

impl Use {
    /// Of a use of the tool of this name.
    pub fn tool(
        name: &str,
        plugin: Option<Arc<str>>,
        outcome: &'static str,
        took: Duration,
    ) -> Self {
        Self { what: Used::Tool, name: Some(cut(name, TEXT).into()), plugin, outcome, took }
    }

    /// Of a transfer.
    pub fn transfer(plugin: Option<Arc<str>>, outcome: &'static str, took: Duration) -> Self {
        Self { what: Used::Transfer, name: None, plugin, outcome, took }
    }
}

impl Happening {
    /// Of an event, of which nothing is shown that somebody said or pressed.
    pub(super) fn of(event: &Event) -> Self {
        let text = |text: &str| Some(Cow::Owned(cut(text, TEXT).into_owned()));
        let detail = match &event.body {
            EventBody::Transcription { role: Role::User, .. } => Some(Cow::Borrowed("user")),
            EventBody::Transcription { role: Role::Agent, .. } => Some(Cow::Borrowed("agent")),
            EventBody::ToolInvoked { name, .. } => text(name),
            EventBody::Other { kind, .. } => text(kind),
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
        let ends = matches!(event.body, EventBody::Ended(_));
        Self { kind: event.body.kind().name(), detail, ends }
    }
}

impl From<Happening> for What {
    fn from(happening: Happening) -> Self {
        Self::Event(happening)
    }
}

impl What {
    /// Whether nothing is to come of the call.
    pub(super) fn ends(&self) -> bool {
        match self {
            Self::Decision(decision) => decision.refused,
            Self::Event(event) => event.ends,
            Self::Use(_) => false,
        }
    }
}

/// The call itself, unless it holds much memory.
fn light(call: &Arc<Call>) -> Arc<Call> {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let mut weight = call.id.len() + length(&call.agent) + length(&call.from) + length(&call.to);
    for (name, value) in &call.metadata {
        if weight > LIGHT {
            break;
        }
        weight += size_of::<(String, String)>() + name.len() + value.get().len();
    }
    if weight <= LIGHT {
        return Arc::clone(call);
    }
    let text = |text: &Option<String>| text.as_deref().map(|text| cut(text, TEXT).into_owned());
    Arc::new(Call {
        // Whole, as it is what the call is known by; dialects bound it.
        id: call.id.clone(),
        platform: call.platform,
        agent: text(&call.agent),
        from: text(&call.from),
        to: text(&call.to),
        metadata: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::call;

    #[test]
    fn a_light_call_is_shared_and_of_a_heavy_one_little_is_kept() {
        let small = Arc::new(call("2000", "5001", r#"{"a":"b"}"#));
        assert!(Arc::ptr_eq(&light(&small), &small));
        let metadata = format!(r#"{{"a":"{}"}}"#, "x".repeat(LIGHT));
        let heavy = Arc::new(call("2000", "5001", &metadata));
        let kept = light(&heavy);
        assert!(kept.metadata.is_empty());
        assert_eq!((&kept.id, kept.from.as_deref()), (&heavy.id, Some("2000")));
        let long = Arc::new(call(&"1".repeat(LIGHT), "5001", "{}"));
        assert!(light(&long).from.as_ref().is_some_and(|from| from.len() < TEXT + 4));
    }
}
