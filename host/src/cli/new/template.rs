//! The files of a new plugin, from `templates/`. There the plugin is called `plugin-name`, its
//! library `plugin_name` and its type `PluginName`.

use clap::ValueEnum;

use super::name::CrateName;

const MANIFEST: &str = include_str!("templates/manifest.toml");

/// For what needs types of its own.
const SERDE: &str = "serde = { version = \"1\", features = [\"derive\"] }";

/// For documents of the platform, or for tests.
const SERDE_JSON: &str = "serde_json = \"1\"";

/// What a plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TemplateKind {
    /// Decides where calls go
    Router,
    /// Is told what happens in calls
    Observer,
    /// Answers tools of voice agents
    Tools,
    /// All of these, and transfers
    Full,
}

/// What differs from kind to kind.
struct TemplateParts {
    source: &'static str,
    tests: &'static str,
    settings: &'static str,
    /// Beside the SDK.
    dependencies: &'static [&'static str],
    dev_dependencies: &'static [&'static str],
    /// By their names in the folder `events`.
    events: &'static [(&'static str, &'static str)],
}

const CALL: (&str, &str) = ("call.json", include_str!("templates/events/call.json"));
const STARTED: (&str, &str) = ("started.json", include_str!("templates/events/started.json"));
const ENDED: (&str, &str) = ("ended.json", include_str!("templates/events/ended.json"));
const TOOL: (&str, &str) = ("tool.json", include_str!("templates/events/tool.json"));
const TRANSFER: (&str, &str) = ("transfer.json", include_str!("templates/events/transfer.json"));

impl TemplateKind {
    /// What such a plugin is, for the end of a sentence.
    pub(super) fn summary(self) -> &'static str {
        match self {
            Self::Router => "a router, which decides where calls go",
            Self::Observer => "an observer, which is told what happens in calls",
            Self::Tools => "tools, which voice agents use in the middle of a call",
            Self::Full => "a router, an observer, a tool and a say in transfers",
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

/// The files of a plugin, by their paths in its folder. `sdk` is what its manifest says
/// of the SDK.
pub(super) fn render_files(
    name: &CrateName,
    kind: TemplateKind,
    sdk: &str,
) -> Vec<(String, String)> {
    let parts = kind.parts();
    // In this order, in which none finds what another one put there.
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

/// The manifest with what it depends on.
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
        // With what a placeholder could be mistaken for.
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

    /// One that is commented out is told to be the default, or is an example.
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
