//! Reads JSON from platforms; an error names the field that is wrong.
//!
//! Metadata and nested documents stay text (`RawValue`), so that they reach plugins unchanged.
//! Lists and objects are read only as far as they are used: a body of some megabytes can hold
//! many times as much as parsed values.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::BadRequest;
use plugboard_core::call::TextRef;

/// Reads JSON; `parent` is the path of what is read.
pub(super) fn parse_json<'a, T: Deserialize<'a>>(
    json: &'a [u8],
    parent: &str,
) -> Result<T, BadRequest> {
    serde_json::from_slice(json).map_err(|error| {
        if !error.is_data() {
            let what = match parent {
                "" => "the body".to_owned(),
                parent => format!("`{parent}`"),
            };
            return BadRequest { message: format!("{what} is not JSON: {error}") };
        }
        // Read once more with the path kept, which good requests need not pay for.
        let json = &mut serde_json::Deserializer::from_slice(json);
        let Err(error) = serde_path_to_error::deserialize::<_, T>(json) else {
            return BadRequest { message: error.to_string() };
        };
        let path = error.path().to_string();
        let path = match (parent, &*path) {
            (parent, ".") => parent.to_owned(),
            ("", path) => path.to_owned(),
            (parent, path) => format!("{parent}.{path}"),
        };
        // Line and column are those of the part that was read, not of the body.
        let message = error.inner().to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        BadRequest {
            message: match &*path {
                "" => message.to_owned(),
                path => format!("`{path}`: {message}"),
            },
        }
    })
}

/// A phone number: text, or the bare number that some write.
#[derive(Default)]
pub(super) struct PhoneNumber(pub(super) Option<String>);

impl<'de> Deserialize<'de> for PhoneNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = <&RawValue>::deserialize(deserializer)?.get();
        match value.as_bytes().first() {
            Some(b'n') => Ok(Self(None)),
            Some(b'"') => {
                serde_json::from_str(value).map(Some).map(Self).map_err(de::Error::custom)
            }
            Some(b'-' | b'0'..=b'9') => Ok(Self(Some(value.to_owned()))),
            _ => Err(de::Error::custom("invalid type: expected text or a number")),
        }
    }
}

/// Fields of an object that are read; real ones have some tens.
const MAX_FIELDS: usize = 4_096;

/// A JSON object, its values untouched, in its order, as far as the first
/// [`MAX_FIELDS`] go; `null` is an empty one.
#[derive(Default)]
pub(super) struct JsonObject<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for JsonObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for ObjectVisitor<'a> {
            type Value = JsonObject<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(JsonObject::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(name) = map.next_key::<TextRef<'de>>()? {
                    if fields.len() < MAX_FIELDS {
                        fields.push((name.0, map.next_value()?));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(JsonObject(fields))
            }
        }
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// The first of a list, and how many there are: a list of nothing in particular, as long
/// as a body may be, would take many times as much memory.
pub(super) struct BoundedList<T, const MAX: usize> {
    pub(super) entries: Vec<T>,
    pub(super) total: usize,
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for BoundedList<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BoundedListVisitor<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedListVisitor<T, MAX> {
            type Value = BoundedList<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while entries.len() < MAX {
                    match list.next_element()? {
                        Some(entry) => entries.push(entry),
                        None => return Ok(BoundedList { total: entries.len(), entries }),
                    }
                }
                let mut total = entries.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    total += 1;
                }
                Ok(BoundedList { entries, total })
            }
        }
        deserializer.deserialize_seq(BoundedListVisitor(PhantomData))
    }
}

/// What is of use if it is there and what it should be, and no reason to refuse a
/// document that will not come again if it is not.
pub(super) struct Lenient<T>(pub(super) Option<T>);

impl<T> Default for Lenient<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(value.get()).ok()))
    }
}

/// A JSON object as it stands.
pub(super) fn object<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<&'de RawValue, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?;
    if value.get().starts_with('{') {
        Ok(value)
    } else {
        Err(de::Error::custom("invalid type: expected an object"))
    }
}

/// Longest name of anything, in bytes: calls have UUIDs (36) and the like.
pub(super) const MAX_NAME: usize = 128;

/// Refuses what can be no name of a call, or of anything else that is remembered by
/// it; `field` is where it stood.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), BadRequest> {
    if (1..=MAX_NAME).contains(&name.len()) {
        return Ok(());
    }
    let message = format!("`{field}`: expected 1 to {MAX_NAME} bytes, found {}", name.len());
    Err(BadRequest { message })
}
