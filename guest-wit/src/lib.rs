//! The contract between [Plugboard] and its plugins: a [WIT] package, as text.
//!
//! Plugins in Rust use the crate [`plugboard-sdk`], which contains the same files. This crate is
//! for bindings without the SDK, for example in a build script:
//!
//! ```no_run
//! std::fs::create_dir_all("wit")?;
//! for (name, text) in plugboard_wit::FILES {
//!     std::fs::write(format!("wit/{name}"), text)?;
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! [Plugboard]: https://github.com/plugboard/plugboard
//! [WIT]: https://component-model.bytecodealliance.org/design/wit.html
//! [`plugboard-sdk`]: https://docs.rs/plugboard-sdk

#![forbid(unsafe_code)]

/// Name and version of the WIT package.
pub const PACKAGE: &str = "plugboard:plugin@0.1.0";

/// Files of the WIT package: name and text of each.
pub const FILES: &[(&str, &str)] = &[
    ("config.wit", include_str!("../wit/config.wit")),
    ("http.wit", include_str!("../wit/http.wit")),
    ("kv.wit", include_str!("../wit/kv.wit")),
    ("log.wit", include_str!("../wit/log.wit")),
    ("metrics.wit", include_str!("../wit/metrics.wit")),
    ("observer.wit", include_str!("../wit/observer.wit")),
    ("router.wit", include_str!("../wit/router.wit")),
    ("tools.wit", include_str!("../wit/tools.wit")),
    ("transfers.wit", include_str!("../wit/transfers.wit")),
    ("types.wit", include_str!("../wit/types.wit")),
    ("worlds.wit", include_str!("../wit/worlds.wit")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_folder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/wit");
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        let listed: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, listed);
    }

    #[test]
    fn package_is_declared_once() {
        let declared = FILES.iter().flat_map(|(_, text)| text.lines());
        let declared: Vec<&str> = declared.filter(|line| line.starts_with("package ")).collect();
        assert_eq!(declared, [format!("package {PACKAGE};")]);
    }
}
