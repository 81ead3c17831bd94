//! What a plugin's verdicts depended on so far.
//!
//! A plugin says with each verdict which call fields it looked at (`vary`), and
//! may look at others for the next call. So there is not one cache key per
//! plugin but one for each set of fields that it has named: a look-up tries them
//! all. They are few, by [`MAX_SETS`].

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::decision::CachePolicy;

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
    pub fn try_new(reuse: &CachePolicy) -> Option<Self> {
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
pub struct VarySnapshot {
    /// Whether it has answered at all, if only by failing.
    pub has_answered: bool,
    /// Every set of fields that it named, in the order in which it did. Sets are
    /// only ever added, so that a place in the list stays what it is.
    pub sets: Vec<Vary>,
    /// All fields of all sets: calls in which they are equal are the same to the
    /// plugin, as far as it has told.
    pub union: Vary,
}

/// What one version of a plugin's verdicts depended on so far.
#[derive(Debug, Default)]
pub struct VarySets(ArcSwap<VarySnapshot>);

/// More fields, longer names or more sets than are kept.
#[derive(Debug)]
pub struct VaryLimitExceeded;

impl VarySets {
    /// What is known now.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<VarySnapshot>> {
        self.0.load()
    }

    /// Whether it ever gave leave to use a verdict again.
    pub fn has_cacheable_verdicts(&self) -> bool {
        !self.0.load().sets.is_empty()
    }

    /// Learns that the plugin was asked, and nothing else.
    pub fn record_answer(&self) {
        if !self.0.load().has_answered {
            self.0.rcu(|snapshot| VarySnapshot {
                has_answered: true,
                sets: snapshot.sets.clone(),
                union: snapshot.union.clone(),
            });
        }
    }

    /// Learns from a decision. The place of its set, if it may be reused.
    ///
    /// # Errors
    ///
    /// When the plugin is too varied: the decision cannot be cached.
    pub fn record(&self, reuse: Option<&CachePolicy>) -> Result<Option<usize>, VaryLimitExceeded> {
        self.record_answer();
        let Some(reuse) = reuse else { return Ok(None) };
        let vary = Vary::try_new(reuse).ok_or(VaryLimitExceeded)?;
        let find_set = |snapshot: &VarySnapshot| snapshot.sets.iter().position(|set| *set == vary);
        if let Some(index) = find_set(&self.0.load()) {
            return Ok(Some(index));
        }
        self.0.rcu(|snapshot| {
            let mut sets = snapshot.sets.clone();
            if find_set(snapshot).is_none() && sets.len() < MAX_SETS {
                sets.push(vary.clone());
            }
            let union = Vary::new(sets.iter().flat_map(Vary::names));
            VarySnapshot { has_answered: true, sets, union }
        });
        find_set(&self.0.load()).map(Some).ok_or(VaryLimitExceeded)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reuse(vary: &[&str]) -> CachePolicy {
        let vary = vary.iter().map(ToString::to_string).collect();
        CachePolicy { ttl: Duration::from_secs(1), vary }
    }

    #[test]
    fn vary_sets_ignore_field_order_and_keep_their_index() {
        let vary_sets = VarySets::default();
        assert_eq!(vary_sets.record(None).unwrap(), None);
        assert!(vary_sets.snapshot().has_answered && vary_sets.snapshot().sets.is_empty());
        assert_eq!(vary_sets.record(Some(&reuse(&["to", "from"]))).unwrap(), Some(0));
        assert_eq!(vary_sets.record(Some(&reuse(&["to"]))).unwrap(), Some(1));
        assert_eq!(vary_sets.record(Some(&reuse(&["to", "from", "to"]))).unwrap(), Some(0));
        assert_eq!(vary_sets.snapshot().union, Vary::new(["from", "to"]));
    }

    #[test]
    fn record_rejects_excess_sets_and_fields() {
        let vary_sets = VarySets::default();
        for nth in 0..MAX_SETS {
            assert_eq!(vary_sets.record(Some(&reuse(&[&nth.to_string()]))).unwrap(), Some(nth));
        }
        assert!(vary_sets.record(Some(&reuse(&["one more"]))).is_err());
        assert_eq!(vary_sets.record(Some(&reuse(&["3"]))).unwrap(), Some(3));
        let many: Vec<String> = (0..=MAX_FIELDS).map(|nth| nth.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(VarySets::default().record(Some(&reuse(&many))).is_err());
        assert!(VarySets::default().record(Some(&reuse(&["x".repeat(999).as_str()]))).is_err());
    }
}
