//! The tools of a plugin: functions that voice agents call by name.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments;
use crate::call::Call;
use crate::decision::Cache;
use crate::error::Error;
use crate::log;

/// The tools of a plugin, with their names.
///
/// A tool is a function of the call and its arguments. The SDK deserializes the arguments
/// from the agent's JSON, and serializes the result as JSON for the agent.
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
#[must_use = "tools have no effect unless they are returned"]
pub struct ToolBox(Vec<Tool>);

/// A tool with its name.
pub(crate) struct Tool {
    name: String,
    run: Box<Run>,
    cache: Option<Cache>,
}

/// Function of a tool, from JSON to JSON.
type Run = dyn Fn(&Call, &str) -> Result<String, ToolError>;

impl ToolBox {
    /// Creates an empty set of tools.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tool. It replaces an earlier tool of the same name. A tool without arguments
    /// can take `()`, or [`serde::de::IgnoredAny`] to ignore them.
    ///
    /// If the arguments do not match the type, the SDK does not run the tool, and the agent
    /// gets an error with the code [`ToolError::INVALID_ARGUMENTS`].
    pub fn with<A: DeserializeOwned, R: Serialize>(
        self,
        name: impl Into<String>,
        tool: impl Fn(&Call, A) -> Result<R, ToolError> + 'static,
    ) -> Self {
        self.and(name.into(), tool, None)
    }

    /// Adds a tool, as [`ToolBox::with`] does, and makes its results cacheable. For the time
    /// `ttl`, the host reuses a result for the same arguments, in calls in which the fields
    /// of `vary` are equal.
    ///
    /// A field is `id`, `agent`, `from`, `to` or a metadata name. Name every field that the
    /// tool reads. Errors are not cached.
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
            // Without serde's message, which can quote the value.
            serde_json::to_string(&result)
                .map_err(|_| Error::new("the result cannot be serialized as JSON").into())
        });
        self.0.retain(|other| other.name != name);
        self.0.push(Tool { name, run, cache });
        self
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|tool| tool.name.clone()).collect()
    }

    /// Returns the tool of this name.
    ///
    /// # Errors
    ///
    /// If the plugin does not have it. The operator's settings can name such a tool.
    pub(crate) fn tool(&self, name: &str) -> Result<&Tool, ToolError> {
        self.0.iter().find(|tool| tool.name == name).ok_or_else(|| {
            ToolError::new(format_args!("the plugin has no tool `{name}`"))
                .with_code(ToolError::UNKNOWN_TOOL)
        })
    }
}

impl Tool {
    /// Runs the tool, from JSON to JSON.
    pub(crate) fn run(&self, call: &Call, arguments: &str) -> Result<String, ToolError> {
        (self.run)(call, arguments)
    }

    /// Returns the cache terms of the results.
    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }
}

impl fmt::Debug for ToolBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ToolBox").field(&self.names()).finish()
    }
}

/// The error of a tool, which the agent gets as its answer.
///
/// [`ToolError::new`] creates one from text. Write a sentence that helps the agent to
/// continue, without callers' numbers: observers receive it too.
///
/// `?` converts any other error. Its message goes to the log for the operator. The agent
/// learns only that the tool does not work, with the code [`ToolError::INTERNAL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolError {
    pub(crate) message: String,
    pub(crate) code: Option<String>,
    /// Message for the log.
    pub(crate) cause: Option<String>,
}

impl ToolError {
    /// The code for arguments that do not match the tool.
    pub const INVALID_ARGUMENTS: &str = "INVALID_ARGUMENTS";

    /// The code for a tool that the plugin does not have.
    pub const UNKNOWN_TOOL: &str = "UNKNOWN_TOOL";

    /// The code for an error inside the tool, which the agent did not cause.
    pub const INTERNAL: &str = "INTERNAL";

    /// Creates an error with this message: a sentence of at most 4 KiB.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: None, cause: None }
    }

    /// Sets the code for programs, such as `NO_SLOTS`; at most 128 bytes.
    #[must_use]
    pub fn with_code(self, code: impl Into<String>) -> Self {
        Self { code: Some(code.into()), ..self }
    }

    /// Returns the message for the agent.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the code for programs, if one is set.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Logs the error inside the tool for the operator.
    pub(crate) fn report(&self, tool: &str) {
        if let Some(cause) = &self.cause {
            log::error(format_args!("tool `{tool}`: {cause}"));
        }
    }

    /// Returns the message of an error inside the tool, which the log gets.
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

// Like `Error`, `ToolError` itself does not implement `std::error::Error`.
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
    fn tools_are_functions_or_closures() {
        fn double(_: &Call, number: u32) -> Result<u32, ToolError> {
            Ok(number * 2)
        }
        let factor = 3;
        let tools = ToolBox::new()
            .with("double", double)
            .with("triple", move |_, number: u32| Ok(number * factor))
            .with("call_id", |call, _: Value| Ok(json!({ "id": call.id() })));
        assert_eq!(tools.names(), ["double", "triple", "call_id"]);
        assert_eq!(invoke(&tools, "double", "4").unwrap(), "8");
        assert_eq!(invoke(&tools, "triple", "4").unwrap(), "12");
        assert_eq!(invoke(&tools, "call_id", "{}").unwrap(), r#"{"id":"1"}"#);
    }

    #[test]
    fn later_tool_replaces_tool_of_same_name() {
        let tools = ToolBox::new().with("a", |_, ()| Ok(1)).with("b", |_, ()| Ok(2)).with_cached(
            "a",
            |_, ()| Ok(3),
            Duration::from_secs(1),
            ["to"],
        );
        assert_eq!(tools.names(), ["b", "a"]);
        assert_eq!(invoke(&tools, "a", "null").unwrap(), "3");
        // Agents send an empty object to a tool without arguments.
        assert_eq!(invoke(&tools, "a", " {} ").unwrap(), "3");
        let cache = Cache { ttl: Duration::from_secs(1), vary: vec!["to".to_owned()] };
        assert_eq!(tools.tool("a").unwrap().cache(), Some(&cache));
        assert_eq!(tools.tool("b").unwrap().cache(), None);
    }

    #[test]
    fn errors_of_the_sdk_have_codes() {
        let unwritable = BTreeMap::from([((1, 2), "secret")]);
        let tools = ToolBox::new().with("unwritable", move |_, ()| Ok(unwritable.clone()));
        let error = invoke(&tools, "unwritable", "null").unwrap_err();
        assert_eq!(error.code(), Some(ToolError::INTERNAL));
        let error = invoke(&tools, "unwritable", "7").unwrap_err();
        assert_eq!(error.code(), Some(ToolError::INVALID_ARGUMENTS));
        let error = invoke(&tools, "other", "null").unwrap_err();
        assert_eq!(error.to_string(), "the plugin has no tool `other` (UNKNOWN_TOOL)");
    }

    #[test]
    fn other_errors_convert_to_internal_error() {
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
            // The cause is not in the message, which the agent can read to the caller.
            assert_eq!(error.message(), "the tool does not work at the moment");
            assert_eq!(error.code(), Some(ToolError::INTERNAL));
        }
        let error = ToolError::new("no slots left").with_code("NO_SLOTS");
        assert_eq!((error.message(), error.code()), ("no slots left", Some("NO_SLOTS")));
    }
}
