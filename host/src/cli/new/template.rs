//! Files of a new plugin, from `templates/`. The placeholders are `plugin-name` for the plugin,
//! `plugin_name` for its library and `PluginName` for its type.

use clap::ValueEnum;

use super::name::CrateName;

const MANIFEST: &str = include_str!("templates/manifest.toml");

/// Dependency of templates that define serializable types.
const SERDE: &str = "serde = { version = \"1\", features = [\"derive\"] }";

/// Dependency of templates or tests that use JSON documents.
const SERDE_JSON: &str = "serde_json = \"1\"";

/// Kind of a new plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TemplateKind {
    /// Decides where calls go
    Router,
    /// Receives the events of calls
    Observer,
    /// Answers the tool calls of voice agents
    Tools,
    /// All of these, and decides transfers
    Full,
}

/// Parts of a template that depend on the kind.
struct TemplateParts {
    source: &'static str,
    tests: &'static str,
    settings: &'static str,
    /// Dependencies in addition to the SDK.
    dependencies: &'static [&'static str],
    dev_dependencies: &'static [&'static str],
    /// Names and texts of the files in the folder `events`.
    events: &'static [(&'static str, &'static str)],
}

const CALL: (&str, &str) = ("call.json", include_str!("templates/events/call.json"));
const STARTED: (&str, &str) = ("started.json", include_str!("templates/events/started.json"));
const ENDED: (&str, &str) = ("ended.json", include_str!("templates/events/ended.json"));
const TOOL: (&str, &str) = ("tool.json", include_str!("templates/events/tool.json"));
const TRANSFER: (&str, &str) = ("transfer.json", include_str!("templates/events/transfer.json"));

impl TemplateKind {
    /// Returns a description of the plugin, for the end of a sentence.
    pub(super) fn summary(self) -> &'static str {
        match self {
            Self::Router => "a router, which decides where calls go",
            Self::Observer => "an observer, which receives the events of calls",
            Self::Tools => "tools, which voice agents call during a call",
            Self::Full => "a router, an observer, a tool and decisions about transfers",
        }
    }

    fn parts(self) -> TemplateParts {
        match self {
            Self::Router => TemplateParts {
                source: include_str!("templates/router/lib.rs"),
                tests: include_str!("templates/router/tests.rs"),
                settings: include_str!("templates/router/settings.toml"),
                dependencies: &[],
                dev_dependencies: &[],
                events: &[CALL],
            },
            Self::Observer => TemplateParts {
                source: include_str!("templates/observer/lib.rs"),
                tests: include_str!("templates/observer/tests.rs"),
                settings: include_str!("templates/observer/settings.toml"),
                dependencies: &[],
                dev_dependencies: &[],
                events: &[STARTED, ENDED],
            },
            Self::Tools => TemplateParts {
                source: include_str!("templates/tools/lib.rs"),
                tests: include_str!("templates/tools/tests.rs"),
                settings: include_str!("templates/tools/settings.toml"),
                dependencies: &[SERDE],
                dev_dependencies: &[SERDE_JSON],
                events: &[TOOL],
            },
            Self::Full => TemplateParts {
                source: include_str!("templates/full/lib.rs"),
                tests: include_str!("templates/full/tests.rs"),
                settings: include_str!("templates/full/settings.toml"),
                dependencies: &[SERDE, SERDE_JSON],
                dev_dependencies: &[],
                events: &[CALL, ENDED, TOOL, TRANSFER],
            },
        }
    }
}

/// Returns the files of a plugin, with their paths in its folder. `sdk` is the value of the
/// manifest's dependency on the SDK.
pub(super) fn render_files(
    name: &CrateName,
    kind: TemplateKind,
    sdk: &str,
) -> Vec<(String, String)> {
    let parts = kind.parts();
    // The order ensures that no replacement matches the result of an earlier one.
    let substitute = |text: &str| {
        text.replace("plugin_name", &name.library())
            .replace("plugin-name", name.package())
            .replace("PluginName", &name.type_name())
    };
    let try_command = |(event, _): &(&str, _)| {
        format!(
            "plugboard run target/wasm32-wasip2/release/plugin_name.wasm \\\n    \
             --settings plugin-name.toml --event events/{event}"
        )
    };
    let try_commands: Vec<String> = parts.events.iter().map(try_command).collect();
    let readme = include_str!("templates/README.md")
        .replace("SUMMARY", kind.summary())
        .replace("TRY", &try_commands.join("\n"));
    let mut files = vec![
        ("Cargo.toml".to_owned(), render_manifest(&substitute(MANIFEST), &parts, sdk)),
        (".gitignore".to_owned(), include_str!("templates/gitignore").to_owned()),
        ("README.md".to_owned(), substitute(&readme)),
        (substitute("plugin-name.toml"), substitute(parts.settings)),
        ("src/lib.rs".to_owned(), substitute(parts.source)),
        ("src/tests.rs".to_owned(), substitute(parts.tests)),
    ];
    for (event, text) in parts.events {
        files.push((format!("events/{event}"), (*text).to_owned()));
    }
    files
}

/// Returns the manifest with its dependencies.
fn render_manifest(template: &str, parts: &TemplateParts, sdk: &str) -> String {
    let mut dependencies = format!("plugboard-sdk = {sdk}");
    for dependency in parts.dependencies {
        dependencies = format!("{dependencies}\n{dependency}");
    }
    if !parts.dev_dependencies.is_empty() {
        dependencies =
            format!("{dependencies}\n\n[dev-dependencies]\n{}", parts.dev_dependencies.join("\n"));
    }
    template.replace("plugboard-sdk = \"SDK\"", &dependencies)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::Table;

    use super::*;
    use plugboard_runtime::plugin::settings::Settings;

    #[test]
    fn generated_manifests_and_settings_are_valid() {
        // The name contains the placeholders themselves.
        let name: CrateName = "my_plugin_name-plugin-name".parse().unwrap();
        for kind in TemplateKind::value_variants() {
            let files = render_files(&name, *kind, "{ path = '/plugin-name' }");
            let text = |path: &str| &files.iter().find(|(file, _)| file == path).unwrap().1;
            let manifest: Table = text("Cargo.toml").parse().unwrap();
            assert_eq!(manifest["package"]["name"].as_str(), Some(name.package()));
            let sdk = &manifest["dependencies"]["plugboard-sdk"];
            assert_eq!(sdk["path"].as_str(), Some("/plugin-name"));
            let settings = format!("{}.toml", name.package());
            Settings::parse(text(&settings), Path::new(&settings)).unwrap();
            assert!(text("README.md").contains("/my_plugin_name_plugin_name.wasm"));
            assert!(text("src/lib.rs").contains("struct MyPluginNamePluginName;"));
            for (path, text) in files.iter().filter(|(path, _)| path.starts_with("events/")) {
                let _: serde_json::Value = serde_json::from_str(text).expect(path);
            }
        }
    }

    /// Commented keys show their default, or an example.
    #[test]
    fn commented_settings_are_valid_when_enabled() {
        for kind in TemplateKind::value_variants() {
            let all: String = kind.parts().settings.lines().fold(String::new(), |all, line| {
                let key = line.strip_prefix("# ").filter(|rest| {
                    let word = rest.split([' ', ']']).next().unwrap_or_default();
                    rest.starts_with('[') || rest[word.len()..].starts_with(" = ")
                });
                all + key.unwrap_or(line) + "\n"
            });
            assert!(all.contains("\nmemory = "), "{all}");
            Settings::parse(&all, Path::new("all.toml"))
                .unwrap_or_else(|error| panic!("{error}\n{all}"));
        }
    }

    #[test]
    fn generated_profile_matches_repository_profile() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let root: Table = std::fs::read_to_string(root).unwrap().parse().unwrap();
        let mut ours = root["profile"]["plugin"].as_table().unwrap().clone();
        ours.remove("inherits");
        let theirs: Table = MANIFEST.parse().unwrap();
        assert_eq!(theirs["profile"]["release"].as_table(), Some(&ours));
    }
}
