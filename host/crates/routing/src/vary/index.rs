//! The first level of a vary cache: plugin versions and their vary sets.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use super::sets::VarySets;

/// A part of a plugin version that has vary sets of its own: its verdicts, or one of its
/// tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ScopeKey {
    /// The version's id, see [`Plugin::id`](plugboard_runtime::plugin::Plugin).
    pub(super) plugin_id: u64,
    /// Index of the part in the plugin.
    pub(super) part: u32,
}

/// The vary sets of all plugin versions in use.
///
/// A lookup takes a snapshot, locks nothing, and searches a list that is sorted by key. An
/// insertion copies the list. It happens once per plugin version and part, on the first cache
/// miss, and removes versions that are no longer in use. `P` is the plugin.
pub(super) struct VaryIndex<P>(ArcSwap<Vec<Scope<P>>>);

struct Scope<P> {
    key: ScopeKey,
    plugin: Weak<P>,
    sets: Arc<VarySets>,
}

impl<P> Clone for Scope<P> {
    fn clone(&self) -> Self {
        let Self { key, plugin, sets } = self;
        Self { key: *key, plugin: Weak::clone(plugin), sets: Arc::clone(sets) }
    }
}

impl<P> VaryIndex<P> {
    pub(super) fn new() -> Self {
        Self(ArcSwap::default())
    }

    /// Calls `read` with the vary sets of a scope, if the scope has any.
    pub(super) fn read<T>(
        &self,
        key: ScopeKey,
        read: impl FnOnce(&VarySets) -> Option<T>,
    ) -> Option<T> {
        read(&find(&self.0.load(), key)?.sets)
    }

    /// Returns the vary sets of a scope, and creates them if the scope has none.
    pub(super) fn get_or_insert(&self, key: ScopeKey, plugin: &Arc<P>) -> Arc<VarySets> {
        if let Some(scope) = find(&self.0.load(), key) {
            return Arc::clone(&scope.sets);
        }
        let new = Scope { key, plugin: Arc::downgrade(plugin), sets: Arc::default() };
        let mut sets = Arc::clone(&new.sets);
        self.0.rcu(|scopes| {
            let in_use = scopes.iter().filter(|scope| scope.plugin.strong_count() > 0);
            let mut scopes: Vec<_> = in_use.cloned().collect();
            // Another request may have added the scope first.
            if let Some(scope) = find(&scopes, key) {
                sets = Arc::clone(&scope.sets);
            } else {
                sets = Arc::clone(&new.sets);
                scopes.insert(scopes.partition_point(|scope| scope.key < key), new.clone());
            }
            scopes
        });
        sets
    }

    /// Removes all scopes with their vary sets.
    pub(super) fn clear(&self) {
        self.0.store(Arc::default());
    }
}

fn find<P>(scopes: &[Scope<P>], key: ScopeKey) -> Option<&Scope<P>> {
    let index = scopes.binary_search_by_key(&key, |scope| scope.key).ok()?;
    scopes.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(plugin_id: u64) -> ScopeKey {
        ScopeKey { plugin_id, part: 0 }
    }

    fn find_id(index: &VaryIndex<()>, plugin_id: u64) -> Option<u64> {
        index.read(key(plugin_id), |sets| Some(sets.id()))
    }

    #[test]
    fn vary_sets_are_kept_per_plugin_version_and_dropped_with_it() {
        let index = VaryIndex::new();
        let (old, new) = (Arc::new(()), Arc::new(()));
        assert_eq!(find_id(&index, 1), None);
        let old_sets = index.get_or_insert(key(1), &old);
        assert!(Arc::ptr_eq(&old_sets, &index.get_or_insert(key(1), &old)));
        assert_eq!(find_id(&index, 1), Some(old_sets.id()));
        drop(old);
        let new_sets = index.get_or_insert(key(2), &new);
        assert_ne!(new_sets.id(), old_sets.id());
        assert_eq!((find_id(&index, 1), find_id(&index, 2)), (None, Some(new_sets.id())));
        index.clear();
        assert_ne!(index.get_or_insert(key(2), &new).id(), new_sets.id());
    }
}
