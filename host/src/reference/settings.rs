//! Pages of `plugboard.toml` and of the plugin settings, with their JSON schemas.

use expect_test::expect_file;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{GENERATED_NOTICE, assert_page, table_header, table_row};
use plugboard_config::schema::generate_schema;
use plugboard_config::{ConfigDocument, ConfigKey, KEYS};
use plugboard_runtime::plugin::settings::{self, Settings};

#[test]
fn configuration_page_is_current() {
    let schema = generate_schema::<ConfigDocument>();
    let mut text = format!(
        "{GENERATED_NOTICE}\n\n# Configuration\n\n\
         Plugboard reads `plugboard.toml` in the working directory, or the file of `--config \
         FILE`. Every key is\noptional, and is also an environment variable, in which a list is \
         separated by commas. Flags override\nthe environment, and the environment overrides the \
         file. Durations and sizes have a unit: `\"250ms\"`,\n`\"7d\"`, `\"64KiB\"`.\n\n\
         Editors with support for TOML schemas (taplo, Even Better TOML) complete and explain the \
         keys if the\nfile begins with the path of the [schema](plugboard.schema.json):\n\n\
         ```toml\n#:schema docs/reference/plugboard.schema.json\n```\n"
    );
    let mut current_table = None;
    for key in keys_in_declared_order() {
        let (table, name) = key.path.split_once('.').unwrap_or(("", &key.path));
        let properties = match table {
            "" => &schema["properties"],
            table => &schema["properties"][table]["properties"],
        };
        if current_table != Some(table) {
            current_table = Some(table);
            match table {
                "" => text += "\n## Top-level keys\n\n",
                table => {
                    let description = &schema["properties"][table]["description"];
                    text +=
                        &format!("\n## [{table}]\n\n{}\n\n", with_full_stop(as_text(description)));
                }
            }
            text += &table_header(&["key", "environment variable", "default", "meaning"]);
        }
        let property = &properties[name];
        let cells = [
            format!("`{}`", key.path),
            format!("`{}`", key.variable),
            default_text(property),
            meaning_text(property),
        ];
        text += &table_row(&cells.each_ref().map(String::as_str));
    }
    assert_page(&expect_file!["../../../docs/reference/configuration.md"], &text);
    assert_page(&expect_file!["../../../docs/reference/plugboard.schema.json"], &pretty(&schema));
}

#[test]
fn plugin_settings_page_is_current() {
    let schema = generate_schema::<Settings>();
    let mut text = format!(
        "{GENERATED_NOTICE}\n\n# Plugin settings\n\n\
         The settings of `NAME.wasm` are in `NAME.toml` beside it. The file and every key in it \
         are optional.\nPlugboard reloads a changed file while it runs. The \
         [schema](plugin.schema.json) is for editors, like that\nof the [configuration](configuration.md).\n\n"
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
    for ConfigKey { path: key, .. } in KEYS.iter() {
        let path = format!("/properties/{}", key.replace('.', "/properties/"));
        let Some(value) = schema.pointer(&path).and_then(|property| property.get("default")) else {
            continue;
        };
        checked += 1;
        let document = match key.split_once('.') {
            Some((table, name)) => json!({ table: { name: value } }),
            None => json!({ key: value }),
        };
        ConfigDocument::deserialize(document).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    assert!(checked > 40, "only {checked}");
}

/// Returns the rows of a table of the plugin settings.
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

/// Returns all configuration keys, in the order of their declaration.
fn keys_in_declared_order() -> Vec<&'static ConfigKey> {
    let find = |path: &str| KEYS.iter().find(|key| key.path == path);
    let mut ordered = Vec::new();
    for name in known_keys::<ConfigDocument>() {
        match find(&name) {
            Some(key) => ordered.push(key),
            None => {
                let names = known_keys_of_table::<ConfigDocument>(&format!("[{name}]\n"));
                ordered.extend(names.iter().map(|inner| find(&format!("{name}.{inner}")).unwrap()));
            }
        }
    }
    assert_eq!(ordered.len(), KEYS.len(), "keys in the schema and in serde's messages differ");
    ordered
}

/// Returns the fields of a struct, in declaration order.
fn known_keys<T: DeserializeOwned>() -> Vec<String> {
    known_keys_of_table::<T>("")
}

/// Returns the fields of the table that `header` opens, in declaration order. A schema
/// sorts them by name, but serde's error for an unknown field lists them as declared.
fn known_keys_of_table<T: DeserializeOwned>(header: &str) -> Vec<String> {
    let message = match toml::from_str::<T>(&format!("{header}'?' = 1")) {
        Ok(_) => panic!("an unknown key was accepted"),
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

/// Returns the description of a key and of its possible values.
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

/// Returns the text with a full stop at the end.
fn with_full_stop(text: &str) -> String {
    let text = text.trim_end_matches('.');
    format!("{text}.")
}

/// Returns the text with its first letter in lower case.
fn lowercase_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_lowercase);
    first.into_iter().flatten().chain(letters).collect()
}

fn as_text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

fn pretty(schema: &Value) -> String {
    format!("{schema:#}\n")
}
