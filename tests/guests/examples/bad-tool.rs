//! Has a tool `bad` whose result is invalid JSON. It does not use the SDK, because the
//! SDK rejects such a result. The setting `result` replaces the default, `{no JSON`.
#[cfg(target_family = "wasm")]
mod component {
    wit_bindgen::generate!({ path: "../../wit", world: "tools-plugin" });

    use exports::plugboard::plugin::tools::{Call, Guest, ToolError, ToolResult};
    use plugboard::plugin::config;

    struct Plugin;

    impl Guest for Plugin {
        fn names() -> Vec<String> {
            vec!["bad".to_owned()]
        }

        fn invoke(_: Call, _: String, _: String) -> Result<ToolResult, ToolError> {
            let value = config::get("result").unwrap_or_else(|| "{no JSON".to_owned());
            Ok(ToolResult { value, cache: None })
        }
    }

    export!(Plugin);
}
