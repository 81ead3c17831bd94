//! What `plugboard.toml` and a plugin's settings may say.

use expect_test::expect_file;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{MADE, head, holds, row, schema};
use crate::config::{Document, KEYS, variable};
use crate::plugin::settings::{self, Settings};

#[test]
fn the_configuration_is_described() {
    let schema = schema::<Document>();
    let mut text = format!(
        "{MADE}\n\n# Configuration\n\n\
         Plugboard reads `plugboard.toml` in the working directory, or `--config FILE`. Every key \
         is also an\nenvironment variable: there, lists have commas. Flags win over the \
         environment, the environment over\nthe file. Every key may be left out. Spans of time and \
         sizes have a unit: `\"250ms\"`, `\"7d\"`,\n`\"64KiB\"`.\n\n\
         An editor that knows TOML schemas (taplo, Even Better TOML) completes and explains the \
         keys if the\nfile begins with the path of the [schema](plugboard.schema.json):\n\n\
         ```toml\n#:schema docs/reference/plugboard.schema.json\n```\n"
    );
    let mut open = None;
    for key in KEYS {
        let (table, name) = key.split_once('.').unwrap_or(("", key));
        let properties = match table {
            "" => &schema["properties"],
            table => &schema["properties"][table]["properties"],
        };
        if open != Some(table) {
            open = Some(table);
            match table {
                "" => text += "\n## The service\n\n",
                table => {
                    let description = &schema["properties"][table]["description"];
                    text += &format!("\n## [{table}]\n\n{}\n\n", ended(word(description)));
                }
            }
            text += &head(&["key", "environment variable", "default", "meaning"]);
        }
        let property = &properties[name];
        let variable = format!("`{}`", variable(key));
        let cells = [&format!("`{key}`"), &variable, &default(property), &meaning(property)];
        text += &row(&cells.map(String::as_str));
    }
    holds(&expect_file!["../../../docs/reference/configuration.md"], &text);
    holds(&expect_file!["../../../docs/reference/plugboard.schema.json"], &pretty(&schema));
}

#[test]
fn the_settings_of_a_plugin_are_described() {
    let schema = schema::<Settings>();
    let mut text = format!(
        "{MADE}\n\n# A plugin's settings\n\n\
         `NAME.toml` beside `NAME.wasm`. The file may be missing, and so may every key in it. A \
         change is\ntaken up while Plugboard runs. The [schema](plugin.schema.json) is for editors, \
         as that of the\n[configuration](configuration.md).\n\n"
    );
    text += &table(&schema, &names::<Settings>());
    let tables: [(&str, Vec<String>); 5] = [
        ("match", names::<settings::Match>()),
        ("limits", names::<settings::Limits>()),
        ("events", names::<settings::Events>()),
        ("tools", names::<settings::Tools>()),
        ("grants", names::<settings::Grants>()),
    ];
    for (name, keys) in tables {
        let inner = &schema["properties"][name];
        text += &format!("\n## [{name}]\n\n{}\n\n", ended(word(&inner["description"])));
        text += &table(inner, &keys);
    }
    holds(&expect_file!["../../../docs/reference/plugin-settings.md"], &text);
    holds(&expect_file!["../../../docs/reference/plugin.schema.json"], &pretty(&schema));
}

#[test]
fn what_stands_as_a_default_can_be_written() {
    let mut written = 0;
    let schema = schema::<Document>();
    for key in KEYS {
        let path = format!("/properties/{}", key.replace('.', "/properties/"));
        let Some(value) = schema.pointer(&path).and_then(|property| property.get("default")) else {
            continue;
        };
        written += 1;
        let document = match key.split_once('.') {
            Some((table, name)) => json!({ table: { name: value } }),
            None => json!({ *key: value }),
        };
        Document::deserialize(document).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    assert!(written > 40, "only {written}");
}

/// The keys of a table in a plugin's settings.
fn table(schema: &Value, names: &[String]) -> String {
    let mut text = head(&["key", "default", "meaning"]);
    for name in names {
        let property = &schema["properties"][name];
        let (shown, default) = match property["type"].as_str() {
            Some("object") => (format!("`[{name}]`"), String::new()),
            _ => (format!("`{name}`"), default(property)),
        };
        text += &row(&[&shown, &default, &meaning(property)]);
    }
    text
}

/// The fields of a struct, in their order. A schema has them by the alphabet, but what
/// serde says of an unknown one names them all.
fn names<T: DeserializeOwned>() -> Vec<String> {
    let message = match toml::from_str::<T>("'?' = 1") {
        Ok(_) => panic!("an unknown key was taken"),
        Err(error) => error.message().to_owned(),
    };
    message.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

fn default(property: &Value) -> String {
    match &property["default"] {
        Value::Null => "none".to_owned(),
        value => format!("`{value}`"),
    }
}

/// What a key means, and what it can be.
fn meaning(property: &Value) -> String {
    let mut text = ended(word(&property["description"]));
    let listed = match &property["items"] {
        Value::Null => property,
        items => items,
    };
    for choice in listed["oneOf"].as_array().into_iter().flatten() {
        let said = word(&choice["description"]);
        text += &format!(" `\"{}\"`: {}", word(&choice["const"]), ended(&lower(said)));
    }
    text
}

/// With a stop at its end.
fn ended(text: &str) -> String {
    let text = text.trim_end_matches('.');
    format!("{text}.")
}

/// Without a capital at its start, as it goes on.
fn lower(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_lowercase);
    first.into_iter().flatten().chain(letters).collect()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn pretty(schema: &Value) -> String {
    format!("{schema:#}\n")
}
