use plugboard_sdk::testing::Host;
use serde_json::{Value, json};

use super::*;

/// A fake host with the settings of plugin-name.toml.
fn host() -> Host {
    Host::new().with_config("hours", r#"{"monday": "09:00-18:00"}"#)
}

fn ask(arguments: Value) -> Result<Value, ToolError> {
    host().invoke::<PluginName>(&Call::new("1"), "opening_hours", arguments)
}

#[test]
fn tool_returns_hours_of_day() {
    let open = json!({"open": true, "hours": "09:00-18:00"});
    assert_eq!(ask(json!({"day": "Monday"})).unwrap(), open);
    let closed = json!({"open": false, "hours": null});
    assert_eq!(ask(json!({"day": "sunday"})).unwrap(), closed);
}

#[test]
fn invalid_arguments_get_error_codes() {
    let error = ask(json!({"day": "today"})).unwrap_err();
    assert_eq!(error.code(), Some("NO_SUCH_DAY"));
    let error = ask(json!({})).unwrap_err();
    assert_eq!(error.code(), Some(ToolError::INVALID_ARGUMENTS));
}
