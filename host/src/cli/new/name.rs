//! Name of a plugin, which is also the name of its crate, folder and settings.

use std::str::FromStr;

use thiserror::Error;

/// Maximum length of a name. The deployed file adds a number and an extension.
const LONGEST: usize = 64;

/// Keywords of Rust. A crate cannot have one of them as its name.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "union", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Crates that a plugin can use. A plugin of the same name would conflict with them.
const RESERVED_CRATES: &[&str] = &[
    "alloc",
    "core",
    "plugboard_sdk",
    "proc_macro",
    "serde",
    "serde_json",
    "std",
    "test",
    "wit_bindgen",
];

/// Types, traits and variants that are in scope in a plugin: those of Rust's prelude, of the
/// SDK and of the templates. The plugin's type must have another name.
const RESERVED_TYPES: &[&str] = &[
    "AsMut",
    "AsRef",
    "Box",
    "Clone",
    "Copy",
    "Default",
    "Drop",
    "Eq",
    "Err",
    "Extend",
    "Fn",
    "From",
    "Into",
    "Iterator",
    "None",
    "Ok",
    "Option",
    "Ord",
    "Result",
    "Self",
    "Send",
    "Sized",
    "Some",
    "String",
    "Sync",
    "ToOwned",
    "ToString",
    "Vec",
    "BTreeMap",
    "Call",
    "Decision",
    "Deserialize",
    "Duration",
    "Ended",
    "Ending",
    "Error",
    "Event",
    "EventBody",
    "Host",
    "Observer",
    "OpeningHours",
    "Query",
    "Router",
    "Serialize",
    "Started",
    "ToolBox",
    "ToolError",
    "Tools",
    "TransferAnswer",
    "TransferRequest",
    "Transfers",
    "Value",
];

/// Valid name of a plugin's crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CrateName(String);

/// Error of a name that a plugin cannot have.
#[derive(Debug, Error)]
pub(super) enum CrateNameError {
    #[error("expected lowercase letters, digits, `-` and `_`, beginning with a letter")]
    Characters,
    #[error("expected at most {LONGEST} characters")]
    Length,
    #[error("this is a keyword of Rust; use another name, such as {0}-plugin")]
    Keyword(String),
    #[error("this is the name of a crate that plugins use; use another name, such as {0}-plugin")]
    Crate(String),
}

impl CrateName {
    /// Returns the name of the package.
    pub(super) fn package(&self) -> &str {
        &self.0
    }

    /// Returns the name of the library and of its file.
    pub(super) fn library(&self) -> String {
        self.0.replace('-', "_")
    }

    /// Returns the name of the plugin's type.
    pub(super) fn type_name(&self) -> String {
        let mut type_name = String::new();
        for word in self.0.split(['-', '_']) {
            let mut characters = word.chars();
            type_name.extend(characters.next().map(|first| first.to_ascii_uppercase()));
            type_name.push_str(characters.as_str());
        }
        if RESERVED_TYPES.contains(&type_name.as_str()) {
            type_name.push_str("Plugin");
        }
        type_name
    }
}

impl FromStr for CrateName {
    type Err = CrateNameError;

    fn from_str(text: &str) -> Result<Self, CrateNameError> {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        if !text.starts_with(|first: char| first.is_ascii_lowercase())
            || !text.chars().all(is_allowed)
        {
            return Err(CrateNameError::Characters);
        }
        if text.len() > LONGEST {
            return Err(CrateNameError::Length);
        }
        let name = Self(text.to_owned());
        let library = name.library();
        if KEYWORDS.contains(&library.as_str()) {
            return Err(CrateNameError::Keyword(name.0));
        }
        if RESERVED_CRATES.contains(&library.as_str()) {
            return Err(CrateNameError::Crate(name.0));
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum;

    use super::super::template::{self, TemplateKind};
    use super::*;

    fn name(text: &str) -> CrateName {
        text.parse().unwrap()
    }

    #[test]
    fn name_yields_package_library_and_type() {
        let vip = name("vip-router_2");
        assert_eq!(vip.package(), "vip-router_2");
        assert_eq!(vip.library(), "vip_router_2");
        assert_eq!(vip.type_name(), "VipRouter2");
        assert_eq!(name("a--b-").type_name(), "AB");
        assert_eq!(name("router").type_name(), "RouterPlugin");
        assert_eq!(name("tool-box").type_name(), "ToolBoxPlugin");
    }

    #[test]
    fn invalid_crate_names_are_rejected() {
        let parse_error = |text: &str| text.parse::<CrateName>().unwrap_err().to_string();
        for text in ["", "2vip", "-vip", "_vip", "Vip", "vip!", "v/p", "../vip", "víp", "v p", "."]
        {
            assert!(parse_error(text).contains("lowercase letters"), "{text}");
        }
        assert!(parse_error(&"v".repeat(65)).contains("64 characters"));
        for text in ["match", "async", "gen", "self", "union"] {
            assert!(parse_error(text).contains("keyword of Rust"), "{text}");
        }
        for text in ["test", "std", "plugboard-sdk", "serde-json", "serde_json"] {
            assert!(parse_error(text).contains("name of a crate"), "{text}");
        }
        assert!(parse_error("match").contains("match-plugin"));
    }

    #[test]
    fn reserved_types_cover_prelude_and_templates() {
        let sdk = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest-sdk/src/lib.rs");
        let sdk = std::fs::read_to_string(sdk).unwrap();
        let (_, prelude) = sdk.split_once("pub mod prelude {").unwrap();
        let (prelude, _) = prelude.split_once("\n}").unwrap();
        let mut code = format!("{prelude}\n");
        for kind in TemplateKind::value_variants() {
            for (path, text) in template::render_files(&name("x"), *kind, "'1'") {
                if path.ends_with(".rs") {
                    code.push_str(&text);
                }
            }
        }
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        // String literals are removed.
        let code: Vec<&str> = code.flat_map(|line| line.split('"').step_by(2)).collect();
        let code = code.join(" ");
        let is_type = |word: &&str| {
            word.starts_with(|c: char| c.is_ascii_uppercase())
                && word.contains(|c: char| c.is_ascii_lowercase())
        };
        let words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(is_type);
        let missing: BTreeSet<&str> = words.filter(|word| !RESERVED_TYPES.contains(word)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
