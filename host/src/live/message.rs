//! What readers are sent: a type and a JSON document. Everything from outside is a
//! string in it, and callers' numbers are hidden unless somebody unlocked them.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::Reload;
use super::note::{Decision, Happening, Note, UNKNOWN, Use, Used, What};
use crate::event::Call;
use crate::platform::PLATFORMS;
use crate::store::erase::CallName;
use crate::units::micros;

/// Characters of a number that are shown when it is hidden; of one that has hardly more,
/// none.
const LAST: usize = 2;

/// What stands for the rest, however long it is.
const HIDDEN: &str = "••••";

/// Whether an operator is shown who calls whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// The last characters only.
    Masked,
    /// As the platform sent them.
    Shown,
}

/// A message of the stream.
#[derive(Debug)]
pub struct Message {
    /// Its type.
    pub kind: &'static str,
    /// Its JSON.
    pub data: String,
}

/// What a reader is told next.
#[derive(Clone)]
pub enum Item {
    /// Something happened in a call.
    Note(Arc<Note>),
    /// Plugins changed.
    Reload(Arc<Reload>),
    /// A call was erased: what was told of it shall not be shown any more.
    Erased(Arc<Erased>),
    /// What was before is told.
    CaughtUp,
    /// It was too slow, and so many messages are lost to it.
    Missed(u64),
}

/// A call that was erased.
#[derive(Debug, PartialEq, Serialize)]
pub struct Erased {
    call: Arc<str>,
    platforms: Vec<&'static str>,
}

impl Erased {
    pub(super) fn new(call: &CallName) -> Self {
        let meant = PLATFORMS.iter().filter(|it| call.family().is_none_or(|of| of == it.family));
        Self { call: Arc::clone(call.id()), platforms: meant.map(|it| it.name).collect() }
    }
}

impl Numbers {
    /// A number as it is shown.
    fn show(self, number: Option<&str>) -> Option<Cow<'_, str>> {
        let number = number?;
        if self == Self::Shown {
            return Some(Cow::Borrowed(number));
        }
        let count = number.chars().count();
        if count < 2 * LAST {
            return Some(Cow::Borrowed(HIDDEN));
        }
        let last: String = number.chars().skip(count - LAST).collect();
        Some(Cow::Owned(format!("{HIDDEN} {last}")))
    }
}

impl Item {
    /// The message.
    pub fn message(&self, numbers: Numbers) -> Message {
        #[derive(Serialize)]
        struct Nothing {}
        #[derive(Serialize)]
        struct Missed {
            count: u64,
        }
        match self {
            Self::Note(note) => {
                let Note { call, at, what } = &**note;
                let document = OfCall {
                    at: *at,
                    call: &call.id,
                    platform: call.platform.name,
                    what: What::shown(what, call, numbers),
                };
                Message::new(what.kind(), &document)
            }
            Self::Reload(reload) => Message::new("reload", &**reload),
            Self::Erased(erased) => Message::new("erased", &**erased),
            Self::CaughtUp => Message::new("caught_up", &Nothing {}),
            Self::Missed(count) => Message::new("missed", &Missed { count: *count }),
        }
    }
}

impl Message {
    fn new(kind: &'static str, document: &impl Serialize) -> Self {
        // Only maps with keys that are not text fail, and there are none.
        Self { kind, data: serde_json::to_string(document).unwrap_or_default() }
    }
}

#[derive(Serialize)]
struct OfCall<'a> {
    at: Timestamp,
    call: &'a str,
    platform: &'static str,
    #[serde(flatten)]
    what: Shown<'a>,
}

/// What happened, as it is shown.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Shown<'a> {
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
    Use {
        what: Used,
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

impl What {
    /// The type of its message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Decision(_) => "decision",
            Self::Use(_) => "use",
            Self::Event(_) => "event",
        }
    }

    pub(super) fn shown<'a>(&'a self, call: &'a Call, numbers: Numbers) -> Shown<'a> {
        match self {
            Self::Decision(Decision { plugin, outcome, source, failures, took, .. }) => {
                let [from, to] = parties(call, numbers);
                Shown::Decision {
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
            Self::Use(Use { what, name, plugin, outcome, took }) => Shown::Use {
                what: *what,
                // What an agent made up may be anything, a number as well.
                name: name.as_deref().filter(|_| numbers == Numbers::Shown || *outcome != UNKNOWN),
                plugin: plugin.as_deref(),
                outcome,
                took_us: micros(*took),
            },
            Self::Event(Happening { kind, detail, .. }) => {
                Shown::Event { kind, detail: detail.as_deref() }
            }
        }
    }
}

/// A call's numbers, as they are shown.
pub(super) fn parties(call: &Call, numbers: Numbers) -> [Option<Cow<'_, str>>; 2] {
    [&call.from, &call.to].map(|number| numbers.show(number.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hidden_number_nothing_is_told_but_its_end() {
        let masked = |number| Numbers::Masked.show(Some(number)).unwrap().into_owned();
        assert_eq!(masked("+14155550199"), "•••• 99");
        assert_eq!(masked("2000"), "•••• 00");
        assert_eq!(masked("+499"), "•••• 99");
        assert_eq!(masked("299"), "••••");
        assert_eq!(masked(""), "••••");
        assert_eq!(masked("sip:zoë@é"), "•••• @é");
        assert_eq!(Numbers::Masked.show(None), None);
        assert_eq!(Numbers::Shown.show(Some("2000")).as_deref(), Some("2000"));
    }
}
