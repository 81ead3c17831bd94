//! Observed vary sets: the call fields that a plugin's verdicts depended on so far.
//!
//! A plugin names with each verdict the call fields that it depends on (`vary`), and may
//! name others for the next call. The cache therefore has one key for each set of fields
//! that the plugin has named, and a lookup tries them all. [`MAX_SETS`] bounds their
//! number.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::decision::CachePolicy;

/// Largest number of vary sets of one plugin version. A plugin with more probably puts the
/// call's values into `vary`.
pub const MAX_SETS: usize = 8;

/// Largest number of fields in a vary set.
const MAX_FIELDS: usize = 16;

/// Largest length of a field's name, in bytes.
const MAX_NAME: usize = 128;

/// A vary set: names of call fields, sorted, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vary(Box<[Box<str>]>);

impl Vary {
    fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<&str> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into_iter().map(Box::from).collect())
    }

    /// Returns the vary set of a cache policy, or None if it exceeds a limit.
    pub fn try_new(reuse: &CachePolicy) -> Option<Self> {
        let fits = |name: &String| name.len() <= MAX_NAME;
        (reuse.vary.len() <= MAX_FIELDS && reuse.vary.iter().all(fits))
            .then(|| Self::new(reuse.vary.iter().map(String::as_str)))
    }

    /// Returns the names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }
}

/// The observed vary sets of one plugin version, at one time.
#[derive(Debug, Default)]
pub struct VarySnapshot {
    /// True if the plugin has run at least once, even if it failed.
    pub has_answered: bool,
    /// The vary sets, in order of observation. Sets are only added, so an index stays
    /// valid.
    pub sets: Vec<Vary>,
    /// All fields of all sets. Calls that are equal in these fields get the same verdict, as
    /// far as observed.
    pub union: Vary,
}

/// The observed vary sets of one plugin version.
#[derive(Debug, Default)]
pub struct VarySets(ArcSwap<VarySnapshot>);

/// A verdict with too many fields, too long names, or one vary set too many.
#[derive(Debug)]
pub struct VaryLimitExceeded;

impl VarySets {
    /// Returns the current snapshot.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<VarySnapshot>> {
        self.0.load()
    }

    /// Returns true if the plugin has ever returned a cacheable verdict.
    pub fn has_cacheable_verdicts(&self) -> bool {
        !self.0.load().sets.is_empty()
    }

    /// Records that the plugin has run.
    pub fn record_answer(&self) {
        if !self.0.load().has_answered {
            self.0.rcu(|snapshot| VarySnapshot {
                has_answered: true,
                sets: snapshot.sets.clone(),
                union: snapshot.union.clone(),
            });
        }
    }

    /// Records a decision. Returns the index of its vary set, or None if the decision is not
    /// cacheable.
    ///
    /// # Errors
    ///
    /// Fails if a limit is exceeded; the decision cannot be cached then.
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
