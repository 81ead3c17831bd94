//! The pages of `plugboard.toml` and of a plugin's settings, with their JSON schemas.

use expect_test::expect_file;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{GENERATED_NOTICE, assert_page, table_header, table_row};
use plugboard_config::schema::generate_schema;
use plugboard_config::{ConfigDocument, KEYS, variable_name};
use plugboard_runtime::plugin::settings::{self, Settings};

#[test]
fn configuration_page_is_current() {
    let schema = generate_schema::<ConfigDocument>();
    let mut text = format!(
        "{GENERATED_NOTICE}\n\n# Configuration\n\n\
         Plugboard reads `plugboard.toml` in the working directory, or `--config FILE`. Every key \
         is also an\nenvironment variable: there, lists have commas. Flags win over the \
         environment, the environment over\nthe file. Every key may be left out. Spans of time and \
         sizes have a unit: `\"250ms\"`, `\"7d\"`,\n`\"64KiB\"`.\n\n\
         An editor that knows TOML schemas (taplo, Even Better TOML) completes and explains the \
         keys if the\nfile begins with the path of the [schema](plugboard.schema.json):\n\n\
         ```toml\n#:schema docs/reference/plugboard.schema.json\n```\n"
    );
    let mut current_table = None;
    for key in KEYS {
        let (table, name) = key.split_once('.').unwrap_or(("", key));
        let properties = match table {
            "" => &schema["properties"],
            table => &schema["properties"][table]["properties"],
        };
        if current_table != Some(table) {
            current_table = Some(table);
            match table {
                "" => text += "\n## The service\n\n",
                table => {
                    let description = &schema["properties"][table]["description"];
                    text +=
                        &format!("\n## [{table}]\n\n{}\n\n", with_full_stop(as_text(description)));
                }
            }
            text += &table_header(&["key", "environment variable", "default", "meaning"]);
        }
        let property = &properties[name];
        let variable = format!("`{}`", variable_name(key));
        let cells =
            [&format!("`{key}`"), &variable, &default_text(property), &meaning_text(property)];
        text += &table_row(&cells.map(String::as_str));
    }
    assert_page(&expect_file!["../../../docs/reference/configuration.md"], &text);
    assert_page(&expect_file!["../../../docs/reference/plugboard.schema.json"], &pretty(&schema));
}

#[test]
fn plugin_settings_page_is_current() {
    let schema = generate_schema::<Settings>();
    let mut text = format!(
        "{GENERATED_NOTICE}\n\n# A plugin's settings\n\n\
         `NAME.toml` beside `NAME.wasm`. The file may be missing, and so may every key in it. A \
         change is\ntaken up while Plugboard runs. The [schema](plugin.schema.json) is for editors, \
         as that of the\n[configuration](configuration.md).\n\n"
    );
    text += &settings_table(&schema, &known_keys::<Settings>());
    let tables: [(&str, Vec<String>); 5] = [
        ("match", known_keys::<settings::Match>()),
        ("limits", known_keys::<settings::Limits>()),
        ("events", known_keys::<settings::Events>()),
        ("tools", known_keys::<settings::Tools>()),
        ("grants", known_keys::<settings::Grants>()),
    ];
    for (name, keys) in tables {
        let inner = &schema["properties"][name];
        text += &format!("\n## [{name}]\n\n{}\n\n", with_full_stop(as_text(&inner["description"])));
        text += &settings_table(inner, &keys);
    }
    assert_page(&expect_file!["../../../docs/reference/plugin-settings.md"], &text);
    assert_page(&expect_file!["../../../docs/reference/plugin.schema.json"], &pretty(&schema));
}

#[test]
fn documented_defaults_deserialize() {
    let mut checked = 0;
    let schema = generate_schema::<ConfigDocument>();
    for key in KEYS {
        let path = format!("/properties/{}", key.replace('.', "/properties/"));
        let Some(value) = schema.pointer(&path).and_then(|property| property.get("default")) else {
            continue;
        };
        checked += 1;
        let document = match key.split_once('.') {
            Some((table, name)) => json!({ table: { name: value } }),
            None => json!({ *key: value }),
        };
        ConfigDocument::deserialize(document).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    assert!(checked > 40, "only {checked}");
}

/// The keys of a table in a plugin's settings.
fn settings_table(schema: &Value, names: &[String]) -> String {
    let mut text = table_header(&["key", "default", "meaning"]);
    for name in names {
        let property = &schema["properties"][name];
        let (shown, default) = match property["type"].as_str() {
            Some("object") => (format!("`[{name}]`"), String::new()),
            _ => (format!("`{name}`"), default_text(property)),
        };
        text += &table_row(&[&shown, &default, &meaning_text(property)]);
    }
    text
}

/// The fields of a struct, in their order. A schema has them by the alphabet, but what
/// serde says of an unknown one names them all.
fn known_keys<T: DeserializeOwned>() -> Vec<String> {
    let message = match toml::from_str::<T>("'?' = 1") {
        Ok(_) => panic!("an unknown key was taken"),
        Err(error) => error.message().to_owned(),
    };
    message.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

fn default_text(property: &Value) -> String {
    match &property["default"] {
        Value::Null => "none".to_owned(),
        value => format!("`{value}`"),
    }
}

/// What a key means, and what it can be.
fn meaning_text(property: &Value) -> String {
    let mut text = with_full_stop(as_text(&property["description"]));
    let listed = match &property["items"] {
        Value::Null => property,
        items => items,
    };
    for choice in listed["oneOf"].as_array().into_iter().flatten() {
        let description = as_text(&choice["description"]);
        text += &format!(
            " `\"{}\"`: {}",
            as_text(&choice["const"]),
            with_full_stop(&lowercase_first(description))
        );
    }
    text
}

/// With a stop at its end.
fn with_full_stop(text: &str) -> String {
    let text = text.trim_end_matches('.');
    format!("{text}.")
}

/// Without a capital at its start, as it goes on.
fn lowercase_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_lowercase);
    first.into_iter().flatten().chain(letters).collect()
}

fn as_text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn pretty(schema: &Value) -> String {
    format!("{schema:#}\n")
}
