//! Vary sets: the call fields on which a plugin's answers depended so far.
//!
//! A plugin names with each answer the call fields that it read (`vary`), and may read other
//! fields for the next call. A cache therefore has one key for each set of fields that the
//! plugin has named, and a lookup tries all of them. [`MAX_SETS`] bounds their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;

use plugboard_core::decision::CachePolicy;

/// Maximum number of sets of fields per plugin version. A plugin that names more sets puts
/// values of the call into the names.
const MAX_SETS: usize = 8;

/// Maximum number of fields in a set.
const MAX_FIELDS: usize = 16;

/// Maximum length of a field's name, in bytes.
const MAX_NAME: usize = 128;

/// Names of call fields, sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vary(Box<[Box<str>]>);

impl Vary {
    fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into_iter().map(Box::from).collect())
    }

    /// Returns the fields of a cache policy, or `None` if they exceed [`MAX_FIELDS`] or
    /// [`MAX_NAME`].
    fn try_new(policy: &CachePolicy) -> Option<Self> {
        let fits = |name: &String| name.len() <= MAX_NAME;
        (policy.vary.len() <= MAX_FIELDS && policy.vary.iter().all(fits))
            .then(|| Self::new(policy.vary.iter().map(String::as_str)))
    }

    /// Returns the names of the fields.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }
}

/// The vary sets at one moment.
#[derive(Debug, Default)]
pub(crate) struct VarySnapshot {
    /// True if the plugin has answered, if only with an error.
    pub(crate) has_answered: bool,
    /// Every set, in the order in which the plugin named them. Sets are only added, so an index
    /// into the list stays valid.
    pub(crate) sets: Vec<Vary>,
    /// The fields of all sets. As far as is known, the plugin answers calls that are
    /// equal in these fields in the same way.
    pub(crate) union: Vary,
}

/// The vary sets of one cache scope: a plugin version's verdicts, or its results of one
/// tool.
#[derive(Debug)]
pub(crate) struct VarySets {
    id: u64,
    current: ArcSwap<VarySnapshot>,
}

/// The fields of an answer exceed [`MAX_SETS`], [`MAX_FIELDS`] or [`MAX_NAME`].
#[derive(Debug)]
pub(crate) struct VaryLimitExceeded;

impl Default for VarySets {
    fn default() -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT_ID.fetch_add(1, Relaxed), current: ArcSwap::default() }
    }
}

impl VarySets {
    /// Returns an identifier that no other `VarySets` of the process has or had. Every key
    /// begins with it, because an index into the sets is only valid with them.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the current sets.
    pub(crate) fn snapshot(&self) -> arc_swap::Guard<Arc<VarySnapshot>> {
        self.current.load()
    }

    /// Returns whether the plugin ever gave a cacheable answer.
    pub(crate) fn has_cacheable_answers(&self) -> bool {
        !self.current.load().sets.is_empty()
    }

    /// Records that the plugin has answered.
    pub(crate) fn record_answer(&self) {
        if !self.current.load().has_answered {
            self.current.rcu(|snapshot| VarySnapshot {
                has_answered: true,
                sets: snapshot.sets.clone(),
                union: snapshot.union.clone(),
            });
        }
    }

    /// Records an answer. Returns the index of its set; `None` if it has no cache policy.
    ///
    /// # Errors
    ///
    /// Fails with [`VaryLimitExceeded`] if the answer cannot be cached.
    pub(crate) fn record(
        &self,
        policy: Option<&CachePolicy>,
    ) -> Result<Option<usize>, VaryLimitExceeded> {
        self.record_answer();
        let Some(policy) = policy else { return Ok(None) };
        let vary = Vary::try_new(policy).ok_or(VaryLimitExceeded)?;
        let find_set = |snapshot: &VarySnapshot| snapshot.sets.iter().position(|set| *set == vary);
        if let Some(index) = find_set(&self.current.load()) {
            return Ok(Some(index));
        }
        self.current.rcu(|snapshot| {
            let mut sets = snapshot.sets.clone();
            if find_set(snapshot).is_none() && sets.len() < MAX_SETS {
                sets.push(vary.clone());
            }
            let union = Vary::new(sets.iter().flat_map(Vary::names));
            VarySnapshot { has_answered: true, sets, union }
        });
        find_set(&self.current.load()).map(Some).ok_or(VaryLimitExceeded)
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
