//! Parsing of JSON from platforms; an error names the invalid field.
//!
//! Metadata and nested documents stay text (`RawValue`), so that they reach plugins unchanged.
//! Lists and objects are parsed only as far as they are used, because parsed values can take
//! many times the memory of a body of some megabytes.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::adapter::BadRequest;
use plugboard_core::call::TextRef;

/// Parses JSON; `parent` is the path of the parsed part.
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
        // The second parse tracks the path, so that valid requests do not pay for it.
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
        // Line and column refer to the part that was parsed, not to the body.
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

/// A phone number: text, or a JSON number, which some platforms send.
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

/// Maximum number of fields that are read of an object; real objects have some tens.
const MAX_FIELDS: usize = 4_096;

/// A JSON object with raw values, in its order, up to the first [`MAX_FIELDS`] fields;
/// `null` is an empty object.
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

/// The first entries of a list, and its length. A parsed list as long as a body may be would
/// take many times the memory.
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

/// An optional field whose invalid value is ignored, in documents that are not sent again.
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

/// Parses a raw value that must be a JSON object.
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

/// Maximum length of an id or name, in bytes. Ids of calls are UUIDs (36) or similar.
pub(super) const MAX_NAME: usize = 128;

/// Rejects an id or name that is empty or too long; `field` is its path.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), BadRequest> {
    if (1..=MAX_NAME).contains(&name.len()) {
        return Ok(());
    }
    let message = format!("`{field}`: expected 1 to {MAX_NAME} bytes, found {}", name.len());
    Err(BadRequest { message })
}
