//! Calls in progress, and those that ended just now, each with what happened in it.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::message::{Numbers, Shown, parties};
use super::note::{Note, What};
use crate::event::Call;
use crate::store::erase::CallName;

/// Calls that are known at the same time.
const CALLS: usize = 200;

/// What is kept of one: its first note and its last ones.
const NOTES: usize = 64;

/// How long one is shown that ended.
const ENDED: Duration = Duration::from_secs(5 * 60);

/// A call by what it is known by. Brands of one platform share their calls.
struct Key(Arc<Call>);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (self.0.platform.family, &self.0.id) == (other.0.platform.family, &other.0.id)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.platform.family, &self.0.id).hash(state);
    }
}

/// What is known of a call.
#[derive(Clone)]
struct Held {
    call: Arc<Call>,
    /// Its place among all: the greater, the newer.
    place: u64,
    since: Timestamp,
    last: Timestamp,
    /// When the last one came.
    touched: Instant,
    ended: Option<(Timestamp, Instant)>,
    /// Whether the voice agent was given a prompt, if the decision was seen.
    prompt: Option<bool>,
    notes: VecDeque<Arc<Note>>,
    /// Notes that are not kept, as there were too many.
    left_out: u64,
}

/// The calls.
pub(super) struct Calls {
    max_age: Duration,
    next: u64,
    held: HashMap<Key, Held>,
}

/// The calls at one moment: those in progress, newest first, then those that ended,
/// the last one first.
#[derive(Default)]
pub struct CallsNow {
    calls: Vec<Held>,
    /// Notes that were not taken, since the service started.
    dropped: u64,
}

impl Calls {
    pub(super) fn new(max_age: Duration) -> Self {
        Self { max_age, next: 0, held: HashMap::new() }
    }

    /// Takes a note; what it is from now on, with what is known of its call.
    pub(super) fn note(&mut self, mut note: Note, now: Instant) -> Arc<Note> {
        let key = Key(Arc::clone(&note.call));
        let place = self.next;
        self.next += 1;
        if self.held.len() == CALLS && !self.held.contains_key(&key) {
            self.make_room();
        }
        let held = self.held.entry(key).or_insert_with(|| Held::new(&note, place, now));
        if held.ended.is_some() && matches!(&note.what, What::Decision(it) if !it.is_repeated()) {
            // The same name once more, for another call.
            *held = Held::new(&note, place, now);
        }
        if held.call.says_nothing() && !note.call.says_nothing() {
            held.call = Arc::clone(&note.call);
        } else {
            // One for all, so that a call is in memory once.
            note.call = Arc::clone(&held.call);
        }
        let note = Arc::new(note);
        held.take(Arc::clone(&note), now);
        note
    }

    /// Drops the call that will be missed least: one that ended first, else one of which
    /// nothing was heard for the longest time.
    fn make_room(&mut self) {
        let least = self.held.values().min_by_key(|held| match held.ended {
            Some((_, at)) => (false, at),
            None => (true, held.touched),
        });
        if let Some(call) = least.map(|held| Arc::clone(&held.call)) {
            self.held.remove(&Key(call));
        }
    }

    pub(super) fn now(&self, dropped: u64) -> CallsNow {
        let mut calls: Vec<Held> = self.held.values().cloned().collect();
        calls.sort_unstable_by_key(|held| match held.ended {
            None => (true, None, held.place),
            Some((_, at)) => (false, Some(at), held.place),
        });
        calls.reverse();
        CallsNow { calls, dropped }
    }

    pub(super) fn erase(&mut self, call: &CallName) {
        self.held.retain(|key, _| !call.means(&key.0));
    }

    /// Drops what ended some time ago, and what is too old.
    pub(super) fn forget(&mut self, now: Instant) {
        let max_age = self.max_age;
        self.held.retain(|_, held| now < held.end(max_age));
    }

    /// When something is to be dropped.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.held.values().map(|held| held.end(self.max_age)).min()
    }
}

impl Held {
    fn new(note: &Note, place: u64, now: Instant) -> Self {
        Self {
            call: Arc::clone(&note.call),
            place,
            since: note.at,
            last: note.at,
            touched: now,
            ended: None,
            prompt: None,
            notes: VecDeque::new(),
            left_out: 0,
        }
    }

    fn take(&mut self, note: Arc<Note>, now: Instant) {
        (self.last, self.touched) = (note.at, now);
        if let What::Decision(decision) = &note.what {
            self.prompt = Some(decision.prompt);
        }
        if note.what.ends() && self.ended.is_none() {
            self.ended = Some((note.at, now));
        }
        if self.notes.len() == NOTES {
            // The first one tells where the call went.
            self.notes.remove(1);
            self.left_out += 1;
        }
        self.notes.push_back(note);
    }

    /// When it is to be dropped.
    fn end(&self, max_age: Duration) -> Instant {
        self.ended.map_or(self.touched + max_age, |(_, at)| at + ENDED)
    }
}

impl CallsNow {
    /// The document of `GET /calls`.
    pub fn document(&self, numbers: Numbers) -> impl Serialize {
        #[derive(Serialize)]
        struct Document<'a> {
            calls: Vec<OneCall<'a>>,
            dropped: u64,
        }
        let calls = self.calls.iter().map(|held| OneCall::of(held, numbers)).collect();
        Document { calls, dropped: self.dropped }
    }
}

#[derive(Serialize)]
struct OneCall<'a> {
    call: &'a str,
    platform: &'static str,
    agent: Option<&'a str>,
    from: Option<Cow<'a, str>>,
    to: Option<Cow<'a, str>>,
    since: Timestamp,
    last: Timestamp,
    ended: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<bool>,
    timeline: Timeline<'a>,
    left_out: u64,
}

impl<'a> OneCall<'a> {
    fn of(held: &'a Held, numbers: Numbers) -> Self {
        let Held { call, since, last, ended, prompt, notes, left_out, .. } = held;
        let [from, to] = parties(call, numbers);
        Self {
            call: &call.id,
            platform: call.platform.name,
            agent: call.agent.as_deref(),
            from,
            to,
            since: *since,
            last: *last,
            ended: ended.map(|(at, _)| at),
            prompt: *prompt,
            timeline: Timeline { notes, numbers },
            left_out: *left_out,
        }
    }
}

/// What happened in a call, oldest first.
struct Timeline<'a> {
    notes: &'a VecDeque<Arc<Note>>,
    numbers: Numbers,
}

impl Serialize for Timeline<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Moment<'a> {
            r#type: &'static str,
            at: Timestamp,
            #[serde(flatten)]
            what: Shown<'a>,
        }
        serializer.collect_seq(self.notes.iter().map(|note| Moment {
            r#type: note.what.kind(),
            at: note.at,
            what: note.what.shown(&note.call, self.numbers),
        }))
    }
}
