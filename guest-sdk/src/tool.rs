//! The tools of a plugin: functions under the names that agents know them by.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments;
use crate::call::Call;
use crate::decision::Cache;
use crate::error::Error;
use crate::log;

/// The tools that a plugin has.
///
/// A tool is a function of the call and of its arguments, which are read from
/// what the agent sent. What it returns is written as JSON for the agent.
///
/// ```
/// # use plugboard_sdk::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Deserialize)]
/// # struct Query { date: String }
/// # #[derive(Serialize)]
/// # struct Slots { slots: Vec<String> }
/// # fn check_availability(_: &Call, _: Query) -> Result<Slots, ToolError> { todo!() }
/// # fn opening_hours(_: &Call, _: Query) -> Result<Slots, ToolError> { todo!() }
/// let tools = ToolBox::new()
///     .with("check_availability", check_availability)
///     .with_cached("opening_hours", opening_hours, Duration::from_secs(300), ["to"]);
/// ```
#[derive(Default)]
#[must_use = "tools count when they are returned"]
pub struct ToolBox(Vec<Tool>);

/// One of them.
pub(crate) struct Tool {
    name: String,
    run: Box<Run>,
    cache: Option<Cache>,
}

/// A tool from JSON to JSON.
type Run = dyn Fn(&Call, &str) -> Result<String, ToolError>;

impl ToolBox {
    /// No tools.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same tools and one more; a tool that had the name is gone. A tool that
    /// takes no arguments can have [`serde::de::IgnoredAny`] for them.
    ///
    /// Arguments that do not fit are answered for the tool, with the code
    /// `INVALID_ARGUMENTS`.
    pub fn with<A: DeserializeOwned, R: Serialize>(
        self,
        name: impl Into<String>,
        tool: impl Fn(&Call, A) -> Result<R, ToolError> + 'static,
    ) -> Self {
        self.and(name.into(), tool, None)
    }

    /// As [`ToolBox::with`], and lets the host use a result again, for as long as
    /// `ttl`, for the same arguments in calls in which the fields that it depended
    /// on are the same: `id`, `agent`, `from`, `to`, or a metadata name. Name every
    /// field that the tool looks at. An error is never used again.
    pub fn with_cached<A: DeserializeOwned, R: Serialize, F: Into<String>>(
        self,
        name: impl Into<String>,
        tool: impl Fn(&Call, A) -> Result<R, ToolError> + 'static,
        ttl: Duration,
        vary: impl IntoIterator<Item = F>,
    ) -> Self {
        let vary = vary.into_iter().map(Into::into).collect();
        self.and(name.into(), tool, Some(Cache { ttl, vary }))
    }

    fn and<A: DeserializeOwned, R: Serialize>(
        mut self,
        name: String,
        tool: impl Fn(&Call, A) -> Result<R, ToolError> + 'static,
        cache: Option<Cache>,
    ) -> Self {
        let run = Box::new(move |call: &Call, arguments: &str| {
            let result = tool(call, arguments::read(arguments)?)?;
            // Not serde's message: it may quote the value.
            serde_json::to_string(&result)
                .map_err(|_| Error::new("the result of a tool cannot be written as JSON").into())
        });
        self.0.retain(|other| other.name != name);
        self.0.push(Tool { name, run, cache });
        self
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|tool| tool.name.clone()).collect()
    }

    /// The tool of this name.
    ///
    /// # Errors
    ///
    /// When there is none: the operator's settings name tools that the plugin does
    /// not have.
    pub(crate) fn tool(&self, name: &str) -> Result<&Tool, ToolError> {
        self.0.iter().find(|tool| tool.name == name).ok_or_else(|| {
            ToolError::new(format_args!("there is no tool `{name}`"))
                .with_code(ToolError::UNKNOWN_TOOL)
        })
    }
}

impl Tool {
    /// Uses it; from JSON to JSON.
    pub(crate) fn run(&self, call: &Call, arguments: &str) -> Result<String, ToolError> {
        (self.run)(call, arguments)
    }

    /// Leave to use its results again.
    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }
}

impl fmt::Debug for ToolBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ToolBox").field(&self.names()).finish()
    }
}

/// Why a tool came to nothing: an answer, which the agent gets to read.
///
/// Made from text by [`ToolError::new`]: say what the agent can do about it, and leave
/// callers' numbers out, as observers are told, too. Any other error becomes one by
/// `?`: its own words are for the operator and go to the log, and the agent hears only
/// that the tool does not work, with the code [`ToolError::INTERNAL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolError {
    pub(crate) message: String,
    pub(crate) code: Option<String>,
    /// For the log.
    pub(crate) cause: Option<String>,
}

impl ToolError {
    /// The code for arguments that do not fit the tool.
    pub const INVALID_ARGUMENTS: &str = "INVALID_ARGUMENTS";

    /// The code for a tool that the plugin does not have.
    pub const UNKNOWN_TOOL: &str = "UNKNOWN_TOOL";

    /// The code for what went wrong inside of the tool, and is not the agent's doing.
    pub const INTERNAL: &str = "INTERNAL";

    /// An error with this message, a sentence of 4 KiB at the most.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: None, cause: None }
    }

    /// The same error with a word for programs, such as `NO_SLOTS`, of 128 bytes
    /// at the most.
    #[must_use]
    pub fn with_code(self, code: impl Into<String>) -> Self {
        Self { code: Some(code.into()), ..self }
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The word for programs, if it has one.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Tells the operator what went wrong inside of a tool.
    pub(crate) fn report(&self, tool: &str) {
        if let Some(cause) = &self.cause {
            log::error(format_args!("tool `{tool}`: {cause}"));
        }
    }

    /// What went wrong inside of the tool, for the operator.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{} ({code})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

// As with `Error`, `ToolError` itself is no `std::error::Error`.
impl<E: std::error::Error> From<E> for ToolError {
    fn from(error: E) -> Self {
        Error::from(error).into()
    }
}

impl From<Error> for ToolError {
    fn from(error: Error) -> Self {
        let it = Self::new("the tool does not work at the moment").with_code(Self::INTERNAL);
        Self { cause: Some(error.to_string()), ..it }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::{Result, kv};

    fn invoke(tools: &ToolBox, name: &str, arguments: &str) -> Result<String, ToolError> {
        tools.tool(name)?.run(&Call::new("1"), arguments)
    }

    #[test]
    fn a_tool_is_a_function_or_a_closure() {
        fn double(_: &Call, number: u32) -> Result<u32, ToolError> {
            Ok(number * 2)
        }
        let factor = 3;
        let tools = ToolBox::new()
            .with("double", double)
            .with("triple", move |_, number: u32| Ok(number * factor))
            .with("who", |call, _: Value| Ok(json!({ "id": call.id() })));
        assert_eq!(tools.names(), ["double", "triple", "who"]);
        assert_eq!(invoke(&tools, "double", "4").unwrap(), "8");
        assert_eq!(invoke(&tools, "triple", "4").unwrap(), "12");
        assert_eq!(invoke(&tools, "who", "{}").unwrap(), r#"{"id":"1"}"#);
    }

    #[test]
    fn a_name_leads_to_the_tool_that_got_it_last() {
        let tools = ToolBox::new().with("a", |_, ()| Ok(1)).with("b", |_, ()| Ok(2)).with_cached(
            "a",
            |_, ()| Ok(3),
            Duration::from_secs(1),
            ["to"],
        );
        assert_eq!(tools.names(), ["b", "a"]);
        assert_eq!(invoke(&tools, "a", "null").unwrap(), "3");
        // What agents send to a tool that takes nothing.
        assert_eq!(invoke(&tools, "a", " {} ").unwrap(), "3");
        let cache = Cache { ttl: Duration::from_secs(1), vary: vec!["to".to_owned()] };
        assert_eq!(tools.tool("a").unwrap().cache(), Some(&cache));
        assert_eq!(tools.tool("b").unwrap().cache(), None);
    }

    #[test]
    fn what_cannot_be_has_a_code() {
        let unwritable = BTreeMap::from([((1, 2), "secret")]);
        let tools = ToolBox::new().with("unwritable", move |_, ()| Ok(unwritable.clone()));
        let error = invoke(&tools, "unwritable", "null").unwrap_err();
        assert_eq!(error.code(), Some(ToolError::INTERNAL));
        let error = invoke(&tools, "unwritable", "7").unwrap_err();
        assert_eq!(error.code(), Some(ToolError::INVALID_ARGUMENTS));
        let error = invoke(&tools, "other", "null").unwrap_err();
        assert_eq!(error.to_string(), "there is no tool `other` (UNKNOWN_TOOL)");
    }

    #[test]
    fn any_error_is_one_of_the_tool() {
        fn of_std() -> Result<u32, ToolError> {
            Ok("x".parse::<u32>()?)
        }
        fn of_kv() -> Result<(), ToolError> {
            Err(kv::Error::NotANumber)?
        }
        fn of_this_crate() -> Result<(), ToolError> {
            Err(Error::new("no such day"))?
        }
        for (error, cause) in [
            (of_std().unwrap_err(), "invalid digit found in string"),
            (of_kv().unwrap_err(), "kv: "),
            (of_this_crate().unwrap_err(), "no such day"),
        ] {
            assert!(error.cause().unwrap().starts_with(cause), "{error:?}");
            // The agent would read it to the caller.
            assert_eq!(error.message(), "the tool does not work at the moment");
            assert_eq!(error.code(), Some(ToolError::INTERNAL));
        }
        let error = ToolError::new("no slots left").with_code("NO_SLOTS");
        assert_eq!((error.message(), error.code()), ("no slots left", Some("NO_SLOTS")));
    }
}
