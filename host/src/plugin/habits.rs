//! What a plugin's verdicts depended on so far.
//!
//! A plugin says with each verdict which call fields it looked at (`vary`), and
//! may look at others for the next call. So there is not one cache key per
//! plugin but one for each set of fields that it has named: a look-up tries them
//! all. They are few, by [`MAX_SETS`].

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::decision::Reuse;

/// Sets of fields that one version of a plugin may use. More are a sign of a
/// plugin that puts the call's own values there.
pub const MAX_SETS: usize = 8;

/// Fields in a set.
const MAX_FIELDS: usize = 16;

/// Bytes of a field's name.
const MAX_NAME: usize = 128;

/// Names of call fields, each once, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vary(Box<[Box<str>]>);

impl Vary {
    fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into_iter().map(Box::from).collect())
    }

    /// The fields that a plugin named. None: more, or longer names, than are kept.
    pub fn of(reuse: &Reuse) -> Option<Self> {
        let fits = |name: &String| name.len() <= MAX_NAME;
        (reuse.vary.len() <= MAX_FIELDS && reuse.vary.iter().all(fits))
            .then(|| Self::new(reuse.vary.iter().map(String::as_str)))
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }
}

/// What is known of one version of a plugin.
#[derive(Debug, Default)]
pub struct Known {
    /// Whether it has answered at all, if only by failing.
    pub answered: bool,
    /// Every set of fields that it named, in the order in which it did. Sets are
    /// only ever added, so that a place in the list stays what it is.
    pub sets: Vec<Vary>,
    /// All fields of all sets: calls in which they are equal are the same to the
    /// plugin, as far as it has told.
    pub union: Vary,
}

/// What one version of a plugin's verdicts depended on so far.
#[derive(Debug, Default)]
pub struct Habits(ArcSwap<Known>);

/// More fields, longer names or more sets than are kept.
#[derive(Debug)]
pub struct TooVaried;

impl Habits {
    /// What is known now.
    pub fn known(&self) -> arc_swap::Guard<Arc<Known>> {
        self.0.load()
    }

    /// Whether it ever gave leave to use a verdict again.
    pub fn allow_reuse(&self) -> bool {
        !self.0.load().sets.is_empty()
    }

    /// Learns that the plugin was asked, and nothing else.
    pub fn answered(&self) {
        if !self.0.load().answered {
            self.0.rcu(|known| Known {
                answered: true,
                sets: known.sets.clone(),
                union: known.union.clone(),
            });
        }
    }

    /// Learns from a decision. The place of its set, if it may be reused.
    ///
    /// # Errors
    ///
    /// When the plugin is too varied: the decision cannot be cached.
    pub fn learn(&self, reuse: Option<&Reuse>) -> Result<Option<usize>, TooVaried> {
        self.answered();
        let Some(reuse) = reuse else { return Ok(None) };
        let vary = Vary::of(reuse).ok_or(TooVaried)?;
        let place = |known: &Known| known.sets.iter().position(|set| *set == vary);
        if let Some(place) = place(&self.0.load()) {
            return Ok(Some(place));
        }
        self.0.rcu(|known| {
            let mut sets = known.sets.clone();
            if place(known).is_none() && sets.len() < MAX_SETS {
                sets.push(vary.clone());
            }
            let union = Vary::new(sets.iter().flat_map(Vary::names));
            Known { answered: true, sets, union }
        });
        place(&self.0.load()).map(Some).ok_or(TooVaried)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reuse(vary: &[&str]) -> Reuse {
        let vary = vary.iter().map(ToString::to_string).collect();
        Reuse { ttl: Duration::from_secs(1), vary }
    }

    #[test]
    fn sets_are_told_apart_by_their_fields_only_and_keep_their_place() {
        let habits = Habits::default();
        assert_eq!(habits.learn(None).unwrap(), None);
        assert!(habits.known().answered && habits.known().sets.is_empty());
        assert_eq!(habits.learn(Some(&reuse(&["to", "from"]))).unwrap(), Some(0));
        assert_eq!(habits.learn(Some(&reuse(&["to"]))).unwrap(), Some(1));
        assert_eq!(habits.learn(Some(&reuse(&["to", "from", "to"]))).unwrap(), Some(0));
        assert_eq!(habits.known().union, Vary::new(["from", "to"]));
    }

    #[test]
    fn what_is_too_varied_is_refused() {
        let habits = Habits::default();
        for nth in 0..MAX_SETS {
            assert_eq!(habits.learn(Some(&reuse(&[&nth.to_string()]))).unwrap(), Some(nth));
        }
        assert!(habits.learn(Some(&reuse(&["one more"]))).is_err());
        assert_eq!(habits.learn(Some(&reuse(&["3"]))).unwrap(), Some(3));
        let many: Vec<String> = (0..=MAX_FIELDS).map(|nth| nth.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(Habits::default().learn(Some(&reuse(&many))).is_err());
        assert!(Habits::default().learn(Some(&reuse(&["x".repeat(999).as_str()]))).is_err());
    }
}
