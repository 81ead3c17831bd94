//! JSON schemas of configuration and settings, for editors, the reference pages, and the
//! list of keys.

use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// Generates the schema of a document, without references, which TOML editors support best.
pub fn generate_schema<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft07().with_transform(simplify as fn(&mut Schema));
    settings.inline_subschemas = true;
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Removes what is specific to Rust: the formats of numbers, `null` (which TOML does not
/// have), and the line breaks of doc comments.
fn simplify(schema: &mut Schema) {
    transform_subschemas(&mut simplify, schema);
    schema.remove("title");
    schema.remove("format");
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(either)) = schema.get_mut("anyOf") {
        either.retain(|schema| schema["type"] != "null");
        if let [Value::Object(only)] = either.as_slice() {
            let mut only = only.clone();
            // The description of the key overrides that of its type.
            schema.remove("anyOf");
            only.extend(std::mem::take(schema.ensure_object()));
            *schema = only.into();
        }
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = first_sentence(text);
    }
}

/// Joins the lines of a doc comment, and removes the name of the table in front (`[limits]`:
/// ...).
fn first_sentence(comment: &str) -> String {
    let text = comment.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some(("", rest)) = text.split_once("`[") else { return text };
    let Some((_, rest)) = rest.split_once("]`: ") else { return text };
    let mut letters = rest.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}
