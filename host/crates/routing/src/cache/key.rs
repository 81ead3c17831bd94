//! Keys: which verdict fits which call.

use plugboard_core::call::Call;
use plugboard_core::vary::Vary;
use plugboard_runtime::plugin::Plugin;

/// Bytes of a key. A call whose fields are longer is not worth remembering.
const MAX_KEY: usize = 4 * 1024;

/// Metadata of a call beyond which it is not looked through for every name.
/// Platforms send about fifteen.
const MAX_METADATA: usize = 256;

/// What the values of a key are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// A verdict, by the place of its set of fields in the plugin's habits.
    Verdict(usize),
    /// Calls that a computation is under way for, by the number of sets that the
    /// plugin was known to use when it began: they make up the fields.
    Flight(usize),
}

/// A plugin's version, the platform, and the values of some fields of a call. Two
/// keys are equal if and only if all of these are.
pub(super) type CacheKey = Box<[u8]>;

/// The key of a call. None: the values are too long or too many.
pub(super) fn cache_key(
    plugin: &Plugin,
    kind: KeyKind,
    fields: &Vary,
    call: &Call,
) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(64);
    key.extend_from_slice(&plugin.id.to_ne_bytes());
    let (tag, number) = match kind {
        KeyKind::Verdict(set_index) => (0, set_index),
        KeyKind::Flight(set_count) => (1, set_count),
    };
    key.extend_from_slice(&[tag, u8::try_from(number).ok()?]);
    append_vary_key(key, fields, call)
}

/// The platform and the values of some fields of a call, behind what stands in a key
/// already. None: the values are too long or too many.
pub fn append_vary_key(mut key: Vec<u8>, fields: &Vary, call: &Call) -> Option<Vec<u8>> {
    if call.metadata.len() > MAX_METADATA {
        return None;
    }
    push_value(&mut key, Some(call.platform.name))?;
    for name in fields.names() {
        match name {
            "id" => push_value(&mut key, Some(&call.id))?,
            "agent" => push_value(&mut key, call.agent.as_deref())?,
            "from" => push_value(&mut key, call.from.as_deref())?,
            "to" => push_value(&mut key, call.to.as_deref())?,
            // Every key has the platform.
            _ => {}
        }
        // Also for the fixed names: a platform may send metadata of such a name,
        // and the plugin may have meant that. As it was sent, since plugins see
        // more of it than its text; all of them, since it may be there twice.
        for (_, value) in call.metadata.iter().filter(|(metadata_name, _)| metadata_name == name) {
            push_value(&mut key, Some(value.get()))?;
        }
        key.push(FIELD_END);
    }
    Some(key)
}

/// What a part of a key begins with: a field that is missing is not the same as
/// one that is empty.
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
