//! Keys of cached answers, for the calls that they match.

use super::sets::{Vary, VarySets};
use plugboard_core::call::Call;

/// Maximum bytes of a key. Answers for calls with longer field values are not cached.
const MAX_KEY: usize = 4 * 1024;

/// Maximum metadata entries of a call that is cached. Platforms send about fifteen. A call with
/// more is not searched for every field name.
const MAX_METADATA: usize = 256;

/// The kind of entry that a key identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// An answer, with the index of its vary set.
    Answer(usize),
    /// A computation that concurrent calls share, with the number of vary sets that were known
    /// at its start. The union of these sets is its set of fields.
    Flight(usize),
}

/// A key: the vary sets' identifier, the kind, the request, the platform, and the values of
/// some call fields. Two keys are equal if and only if all of these are.
pub(crate) type CacheKey = Box<[u8]>;

/// Returns the key of a call; `None` if the values are too long or too many.
///
/// `request` has all other inputs of the answer, for example a digest of a tool's arguments. It
/// has the same length for all requests of one `sets`.
pub(super) fn cache_key(
    sets: &VarySets,
    kind: KeyKind,
    request: &[u8],
    fields: &Vary,
    call: &Call,
) -> Option<Vec<u8>> {
    if call.metadata.len() > MAX_METADATA {
        return None;
    }
    let mut key = Vec::with_capacity(64 + request.len());
    key.extend_from_slice(&sets.id().to_ne_bytes());
    let (tag, number) = match kind {
        KeyKind::Answer(set_index) => (0, set_index),
        KeyKind::Flight(set_count) => (1, set_count),
    };
    key.extend_from_slice(&[tag, u8::try_from(number).ok()?]);
    key.extend_from_slice(request);
    push_value(&mut key, Some(call.platform.name))?;
    for name in fields.names() {
        match name {
            "id" => push_value(&mut key, Some(&call.id))?,
            "agent" => push_value(&mut key, call.agent.as_deref())?,
            "from" => push_value(&mut key, call.from.as_deref())?,
            "to" => push_value(&mut key, call.to.as_deref())?,
            // The platform is already part of every key.
            _ => {}
        }
        // Metadata with a fixed field's name counts as well, because a platform may send it,
        // and the plugin may have read it. The raw JSON counts, because plugins see more than
        // its text. Every entry counts, because a name may occur twice.
        for (_, value) in call.metadata.iter().filter(|(metadata_name, _)| metadata_name == name) {
            push_value(&mut key, Some(value.get()))?;
        }
        key.push(FIELD_END);
    }
    Some(key)
}

/// First bytes of the parts of a key. A missing field differs from an empty one.
const FIELD_END: u8 = 0;
const MISSING: u8 = 1;
const VALUE: u8 = 2;

fn push_value(key: &mut Vec<u8>, value: Option<&str>) -> Option<()> {
    let Some(value) = value else {
        key.push(MISSING);
        return Some(());
    };
    if key.len() + value.len() > MAX_KEY {
        return None;
    }
    key.push(VALUE);
    key.extend_from_slice(&u32::try_from(value.len()).ok()?.to_ne_bytes());
    key.extend_from_slice(value.as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use plugboard_core::decision::CachePolicy;
    use plugboard_core::testing::call;

    fn sets(fields: &[&str]) -> VarySets {
        let sets = VarySets::default();
        for field in fields {
            let vary = vec![(*field).to_owned()];
            let policy = CachePolicy { ttl: Duration::from_secs(1), vary };
            sets.record(Some(&policy)).unwrap();
        }
        sets
    }

    fn key(sets: &VarySets, set_index: usize, request: &[u8], call: &Call) -> Vec<u8> {
        let fields = &sets.snapshot().sets[set_index];
        cache_key(sets, KeyKind::Answer(set_index), request, fields, call).unwrap()
    }

    #[test]
    fn keys_are_equal_for_same_sets_request_and_field_values_only() {
        let (one, other) = (sets(&["from", "to"]), sets(&["from", "to"]));
        let known = key(&one, 0, b"a", &call("1", "2", "{}"));
        assert_eq!(key(&one, 0, b"a", &call("1", "3", "{}")), known);
        assert_ne!(key(&one, 0, b"a", &call("2", "2", "{}")), known);
        assert_ne!(key(&one, 0, b"b", &call("1", "2", "{}")), known);
        assert_ne!(key(&one, 1, b"a", &call("2", "1", "{}")), known);
        assert_ne!(key(&one, 0, b"a", &call("1", "2", r#"{"from":1}"#)), known);
        // Another version of the plugin has other vary sets, though they are equal.
        assert_ne!(key(&other, 0, b"a", &call("1", "2", "{}")), known);
    }

    #[test]
    fn missing_field_differs_from_empty_field() {
        let sets = sets(&["from"]);
        let (empty, mut missing) = (call("", "2", "{}"), call("", "2", "{}"));
        missing.from = None;
        assert_ne!(key(&sets, 0, b"", &empty), key(&sets, 0, b"", &missing));
    }
}
