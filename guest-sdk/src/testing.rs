//! A fake host, so that `cargo test` runs a plugin natively:
//!
//! ```
//! use plugboard_sdk::prelude::*;
//! use plugboard_sdk::testing::Host;
//!
//! # struct Vip;
//! # impl Router for Vip {
//! #     fn decide(call: &Call) -> Result<Decision> {
//! #         log::info("asked");
//! #         Ok(if call.to() == Some(&config::require("vip")?) { route("ws://sts-vip") } else { pass() })
//! #     }
//! # }
//! let host = Host::new().with_config("vip", "5001");
//! let decision = host.decide::<Vip>(&Call::new("1").with_to("5001")).unwrap();
//! assert_eq!(decision.sts_url(), Some("ws://sts-vip"));
//! assert_eq!(host.log()[0].1, "asked");
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::log::Level;
use crate::{Call, Decision, Result, Router, host};

/// A host with the settings that the test gives it, which keeps what the plugin
/// says. Clones are the same host.
#[derive(Clone, Debug, Default)]
pub struct Host(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    config: BTreeMap<String, String>,
    log: Vec<(Level, String)>,
}

impl Host {
    /// A host without settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same host with one more key in the plugin's `[config]`. What is no
    /// text in the settings file is given as the plugin gets it: numbers and
    /// booleans as text, arrays and tables as JSON.
    #[must_use]
    pub fn with_config(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.borrow_mut().config.insert(key.into(), value.into());
        self
    }

    /// Asks a plugin.
    ///
    /// # Errors
    ///
    /// What the plugin returns.
    pub fn decide<T: Router>(&self, call: &Call) -> Result<Decision> {
        host::with(self.clone(), || T::decide(call))
    }

    /// What was logged so far.
    pub fn log(&self) -> Vec<(Level, String)> {
        self.0.borrow().log.clone()
    }

    pub(crate) fn config_value(&self, key: &str) -> Option<String> {
        self.0.borrow().config.get(key).cloned()
    }

    pub(crate) fn logged(&self, level: Level, message: &str) {
        self.0.borrow_mut().log.push((level, message.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, log, reject};

    struct Sample;

    impl Router for Sample {
        fn decide(_: &Call) -> Result<Decision> {
            log::warn("about to read");
            let limit: u32 = config::parse("limit")?.unwrap_or(1);
            let names: Vec<String> = config::table("names")?.unwrap_or_default();
            Ok(reject(format!("{limit} {}", names.join(" "))))
        }
    }

    #[test]
    fn a_plugin_reads_its_settings_and_logs() {
        let host = Host::new().with_config("limit", "7").with_config("names", r#"["a","b"]"#);
        assert_eq!(host.decide::<Sample>(&Call::new("1")).unwrap(), reject("7 a b"));
        assert_eq!(host.log(), [(Level::Warn, "about to read".to_owned())]);
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let host = Host::new().with_config("limit", "many");
        let error = host.decide::<Sample>(&Call::new("1")).unwrap_err().to_string();
        assert_eq!(error, "[config] `limit`: invalid digit found in string");
    }

    #[test]
    #[should_panic(expected = "outside of a plugin")]
    fn without_a_host_there_is_a_clear_word() {
        config::get("x");
    }
}
