//! Deserialization of a tool's arguments. If they do not match the tool's type, the
//! agent gets the name of the field and the expected type. The messages of serde are not
//! used: they quote the value, which can be a caller's data.

use std::fmt::{self, Display};

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde_json::Value;

use crate::tool::ToolError;

/// Reads the arguments as a `T`.
///
/// # Errors
///
/// If the arguments do not match `T`. The message names the field, never its value.
pub(crate) fn read<T: DeserializeOwned>(json: &str) -> Result<T, ToolError> {
    let nothing = || match serde_json::from_str::<Value>(json) {
        // Agents send an empty object to a tool without arguments, `()`.
        Ok(Value::Object(fields)) if fields.is_empty() => serde_json::from_str("null").ok(),
        _ => None,
    };
    serde_json::from_str(json).or_else(|error| nothing().ok_or(error)).map_err(|_| {
        let problem = match serde_json::from_str(json) {
            Ok(value) => match T::deserialize(Argument { path: String::new(), value }) {
                Err(misfit) => misfit.to_string(),
                // Only the text shows the error, for example a duplicate name.
                Ok(_) => "they do not match the tool".to_owned(),
            },
            Err(_) => "not valid JSON".to_owned(),
        };
        ToolError::new(format_args!("invalid arguments: {problem}"))
            .with_code(ToolError::INVALID_ARGUMENTS)
    })
}

/// Mismatch between the arguments and the type.
#[derive(Debug)]
struct Misfit {
    /// Path of the value, once it is known, such as `guests.0.name`. Empty for the
    /// arguments as a whole.
    path: Option<String>,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    /// The value has another type than expected.
    Kind { expected: String, found: &'static str },
    /// The value has the right type, but is not one of the expected values.
    Value { expected: String },
    /// A required field is missing.
    Missing(&'static str),
    /// The type does not have this field.
    Unknown { field: String, fields: &'static [&'static str] },
    /// Any further detail would quote the value.
    Unsuitable,
}

impl Misfit {
    fn at(self, path: String) -> Self {
        // The innermost value is the one that does not match, and is handled first.
        Self { path: self.path.or(Some(path)), ..self }
    }
}

impl From<Reason> for Misfit {
    fn from(reason: Reason) -> Self {
        Self { path: None, reason }
    }
}

impl Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_deref().unwrap_or_default();
        let field = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        match &self.reason {
            Reason::Missing(name) => return write!(f, "`{}` is missing", field(name)),
            Reason::Unknown { field: name, fields } => {
                return write!(f, "unknown field `{}`; expected {}", field(name), one_of(fields));
            }
            Reason::Kind { .. } | Reason::Value { .. } | Reason::Unsuitable => {}
        }
        if !path.is_empty() {
            write!(f, "`{path}`: ")?;
        }
        match &self.reason {
            Reason::Kind { expected, found } => write!(f, "expected {expected}, got {found}"),
            Reason::Value { expected } => write!(f, "expected {expected}"),
            _ => f.write_str("the value is invalid"),
        }
    }
}

impl std::error::Error for Misfit {}

impl serde::de::Error for Misfit {
    fn custom<T: Display>(_: T) -> Self {
        Reason::Unsuitable.into()
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Reason::Kind { expected: plain(expected), found: kind(found) }.into()
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Reason::Value { expected: plain(expected) }.into()
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Reason::Value { expected: plain(expected) }.into()
    }

    fn unknown_variant(_: &str, variants: &'static [&'static str]) -> Self {
        Reason::Value { expected: one_of(variants) }.into()
    }

    fn unknown_field(field: &str, fields: &'static [&'static str]) -> Self {
        Reason::Unknown { field: field.to_owned(), fields }.into()
    }

    fn missing_field(field: &'static str) -> Self {
        Reason::Missing(field).into()
    }
}

/// Returns an expected type in the terms of JSON, because agents do not know Rust's.
fn plain(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    match &*expected {
        "a sequence" => "an array".to_owned(),
        "a map" => "an object".to_owned(),
        "unit" => "null".to_owned(),
        text if text.starts_with("struct ") && !text.contains(" with ") => "an object".to_owned(),
        _ => expected,
    }
}

fn one_of(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [name] => format!("`{name}`"),
        names => format!("one of `{}`", names.join("`, `")),
    }
}

fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number with decimals",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "an array",
        Unexpected::Map => "an object",
        _ => "something else",
    }
}

/// A value with its path in the arguments.
struct Argument {
    path: String,
    value: Value,
}

impl Argument {
    fn inside(path: &str, name: impl Display, value: Value) -> Self {
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        Self { path, value }
    }
}

impl IntoDeserializer<'_, Misfit> for Argument {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Argument {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let Self { path, value } = self;
        let result = match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (.., Some(number)) => visitor.visit_f64(number),
                _ => Err(Reason::Unsuitable.into()),
            },
            Value::String(text) => visitor.visit_string(text),
            Value::Array(values) => {
                let values = values.into_iter().enumerate();
                visitor.visit_seq(SeqDeserializer::new(
                    values.map(|(nth, value)| Self::inside(&path, nth, value)),
                ))
            }
            Value::Object(fields) => {
                visitor.visit_map(MapDeserializer::new(fields.into_iter().map(|(name, value)| {
                    let value = Self::inside(&path, &name, value);
                    (name, value)
                })))
            }
        };
        result.map_err(|misfit| misfit.at(path))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let Self { path, value } = self;
        let result = match value {
            Value::String(text) => {
                let text: serde::de::value::StringDeserializer<Misfit> = text.into_deserializer();
                text.deserialize_enum(name, variants, visitor)
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| {
                    let value = Self::inside(&path, &name, value);
                    (name, value)
                });
                MapAccessDeserializer::new(MapDeserializer::new(fields))
                    .deserialize_enum(name, variants, visitor)
            }
            _ => Err(Reason::Value { expected: one_of(variants) }.into()),
        };
        result.map_err(|misfit| misfit.at(path))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string
        bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::IgnoredAny;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Query {
        date: String,
        #[serde(default)]
        guests: Vec<Guest>,
        part: Option<Part>,
        limit: Option<u8>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Guest {
        name: String,
        age: u8,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Part {
        Morning,
        Hours(Vec<u8>),
    }

    fn misfit<T: DeserializeOwned>(json: &str) -> String {
        let Err(error) = read::<T>(json) else { panic!("{json} fits") };
        assert_eq!(error.code(), Some(ToolError::INVALID_ARGUMENTS));
        error.message().strip_prefix("invalid arguments: ").unwrap().to_owned()
    }

    #[test]
    fn matching_arguments_are_read() {
        let query: Query =
            read(r#"{"date":"x","guests":[{"name":"Ada","age":7}],"part":{"hours":[9]},"more":1}"#)
                .unwrap();
        assert_eq!((&*query.date, query.limit), ("x", None));
        assert_eq!((&*query.guests[0].name, query.guests[0].age), ("Ada", 7));
        assert_eq!(query.part, Some(Part::Hours(vec![9])));
        assert_eq!(
            read::<Query>(r#"{"date":"","part":"morning"}"#).unwrap().part,
            Some(Part::Morning)
        );
        read::<IgnoredAny>("{}").unwrap();
        assert_eq!(read::<Box<RawValue>>("{ \"a\": 1.0 }").unwrap().get(), "{ \"a\": 1.0 }");
    }

    #[test]
    fn mismatch_names_field_and_expected_type() {
        for (json, message) in [
            ("7", "expected an object, got an integer"),
            ("{}", "`date` is missing"),
            (r#"{"date":391}"#, "`date`: expected a string, got an integer"),
            (r#"{"date":"","guests":"391"}"#, "`guests`: expected an array, got a string"),
            (r#"{"date":"","guests":[{}]}"#, "`guests.0.name` is missing"),
            (r#"{"date":"","guests":[{"name":"391","age":391}]}"#, "`guests.0.age`: expected u8"),
            (
                r#"{"date":"","guests":[{"nam":"391"}]}"#,
                "unknown field `guests.0.nam`; expected one of `name`, `age`",
            ),
            (r#"{"date":"","part":"391"}"#, "`part`: expected one of `morning`, `hours`"),
            (r#"{"date":"","part":391}"#, "`part`: expected one of `morning`, `hours`"),
            (
                r#"{"date":"","part":{"hours":["391"]}}"#,
                "`part.hours.0`: expected u8, got a string",
            ),
            (r#"{"date":"","limit":-39.1}"#, "`limit`: expected u8, got a number with decimals"),
            (r#"{"date":"391","date":"391"}"#, "they do not match the tool"),
            ("{391", "not valid JSON"),
        ] {
            assert_eq!(misfit::<Query>(json), message, "{json}");
        }
    }

    #[test]
    fn custom_error_messages_are_omitted() {
        #[derive(Debug)]
        struct Even;
        impl<'de> Deserialize<'de> for Even {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = u32::deserialize(deserializer)?;
                Err(serde::de::Error::custom(format_args!("{number} is odd")))
            }
        }
        #[derive(Debug, Deserialize)]
        struct Pair {
            #[allow(dead_code, reason = "only read from arguments")]
            left: Even,
        }
        assert_eq!(misfit::<Even>("391"), "the value is invalid");
        assert_eq!(misfit::<Pair>(r#"{"left":391}"#), "the value is invalid");
    }
}
