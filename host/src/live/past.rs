//! What happened lately: so many of each kind, none older than there is leave for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Reload;
use super::message::{Erased, Item};
use super::note::{Note, What};
use crate::store::erase::CallName;

/// How many of each are kept.
const DECISIONS: usize = 200;
const USES: usize = 200;
const EVENTS: usize = 500;
const RELOADS: usize = 50;
/// Of calls that were erased, that they were: for who was away meanwhile, and still
/// shows them.
const ERASED: usize = 200;

/// The last ones of a kind, oldest first.
struct Last<T> {
    most: usize,
    kept: VecDeque<Kept<T>>,
}

struct Kept<T> {
    /// Its place among those of all kinds.
    place: u64,
    since: Instant,
    what: Arc<T>,
}

impl<T> Last<T> {
    fn new(most: usize) -> Self {
        Self { most, kept: VecDeque::new() }
    }

    fn push(&mut self, place: u64, since: Instant, what: Arc<T>) {
        if self.kept.len() == self.most {
            self.kept.pop_front();
        }
        self.kept.push_back(Kept { place, since, what });
    }
}

/// What happened lately.
pub(super) struct Past {
    max_age: Duration,
    next: u64,
    decisions: Last<Note>,
    uses: Last<Note>,
    events: Last<Note>,
    /// They tell of no call, and do not age.
    reloads: Last<Reload>,
    erased: Last<Erased>,
}

impl Past {
    pub(super) fn new(max_age: Duration) -> Self {
        Self {
            max_age,
            next: 0,
            decisions: Last::new(DECISIONS),
            uses: Last::new(USES),
            events: Last::new(EVENTS),
            reloads: Last::new(RELOADS),
            erased: Last::new(ERASED),
        }
    }

    pub(super) fn note(&mut self, note: Arc<Note>, now: Instant) {
        let place = self.place();
        let last = match note.what {
            What::Decision(_) => &mut self.decisions,
            What::Use(_) => &mut self.uses,
            What::Event(_) => &mut self.events,
        };
        last.push(place, now, note);
    }

    pub(super) fn reload(&mut self, reload: Arc<Reload>, now: Instant) {
        let place = self.place();
        self.reloads.push(place, now, reload);
    }

    fn place(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn notes(&mut self) -> [&mut VecDeque<Kept<Note>>; 3] {
        [&mut self.decisions, &mut self.uses, &mut self.events].map(|last| &mut last.kept)
    }

    /// Everything, oldest first.
    pub(super) fn all(&self) -> VecDeque<Item> {
        let notes = [&self.decisions, &self.uses, &self.events].into_iter();
        let notes = notes.flat_map(|last| &last.kept);
        let notes = notes.map(|kept| (kept.place, Item::Note(Arc::clone(&kept.what))));
        let reloads = self.reloads.kept.iter();
        let reloads = reloads.map(|kept| (kept.place, Item::Reload(Arc::clone(&kept.what))));
        let erased = self.erased.kept.iter();
        let erased = erased.map(|kept| (kept.place, Item::Erased(Arc::clone(&kept.what))));
        let mut all: Vec<_> = notes.chain(reloads).chain(erased).collect();
        all.sort_unstable_by_key(|(place, _)| *place);
        all.into_iter().map(|(_, item)| item).collect()
    }

    /// Newest first.
    pub(super) fn reloads(&self) -> Vec<Arc<Reload>> {
        self.reloads.kept.iter().rev().map(|kept| Arc::clone(&kept.what)).collect()
    }

    pub(super) fn erase(&mut self, call: &CallName, erased: Arc<Erased>, now: Instant) {
        for notes in self.notes() {
            notes.retain(|kept| !call.means(&kept.what.call));
        }
        self.erased.kept.retain(|kept| *kept.what != *erased);
        let place = self.place();
        self.erased.push(place, now, erased);
    }

    /// Drops what is too old.
    pub(super) fn forget(&mut self, now: Instant) {
        let max_age = self.max_age;
        for notes in self.notes() {
            while notes.front().is_some_and(|kept| now >= kept.since + max_age) {
                notes.pop_front();
            }
        }
        let erased = &mut self.erased.kept;
        while erased.front().is_some_and(|kept| now >= kept.since + max_age) {
            erased.pop_front();
        }
    }

    /// When something will be too old.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let lasts = [&self.decisions, &self.uses, &self.events].into_iter();
        let notes = lasts.filter_map(|last| Some(last.kept.front()?.since));
        let erased = self.erased.kept.front().map(|kept| kept.since);
        notes.chain(erased).min().map(|since| since + self.max_age)
    }
}
