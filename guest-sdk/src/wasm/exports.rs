//! Implementations of the contract's exports for a plugin's type.

use std::marker::PhantomData;
use std::panic;

use super::bindings::plugboard::plugin::types;
use super::observer::exports::plugboard::plugin::observer;
use super::router::exports::plugboard::plugin::router;
use super::tools::exports::plugboard::plugin::tools;
use super::transfers::exports::plugboard::plugin::transfers;
use crate::log::Level;
use crate::{Observer, Router, Tools, TransferRequest, Transfers};

/// The export of a [`Router`].
pub struct RouterOf<T>(PhantomData<T>);

impl<T: Router> router::Guest for RouterOf<T> {
    fn decide(call: types::Call) -> Result<types::Decision, String> {
        report_panics();
        T::decide(&call.into()).map(Into::into).map_err(|error| error.to_string())
    }
}

/// The export of an [`Observer`].
pub struct ObserverOf<T>(PhantomData<T>);

impl<T: Observer> observer::Guest for ObserverOf<T> {
    fn on_event(event: types::Event) -> Result<(), String> {
        report_panics();
        T::on_event(&event.into()).map_err(|error| error.to_string())
    }
}

/// The export of [`Tools`].
pub struct ToolsOf<T>(PhantomData<T>);

impl<T: Tools> tools::Guest for ToolsOf<T> {
    fn names() -> Vec<String> {
        report_panics();
        T::tools().names()
    }

    fn invoke(
        call: types::Call,
        name: String,
        arguments: String,
    ) -> Result<tools::ToolResult, tools::ToolError> {
        report_panics();
        let tools = T::tools();
        let tool = tools.tool(&name)?;
        let value = tool.run(&call.into(), &arguments).inspect_err(|it| it.report(&name))?;
        Ok(tools::ToolResult { value, cache: tool.cache().cloned().map(Into::into) })
    }
}

/// The export of [`Transfers`].
pub struct TransfersOf<T>(PhantomData<T>);

impl<T: Transfers> transfers::Guest for TransfersOf<T> {
    fn decide(call: types::Call, request: String) -> Result<Option<String>, String> {
        report_panics();
        let answer = T::on_transfer(&call.into(), &TransferRequest { json: request });
        answer.map(|answer| Some(answer?.json)).map_err(|error| error.to_string())
    }
}

/// Exports a type with a [`Router`].
#[macro_export]
#[doc(hidden)]
macro_rules! __export_router {
    ($plugin:ty) => {
        const _: () = {
            type Exported = $crate::host::RouterOf<$plugin>;
    $crate::host::router::export_router!(Exported with_types_in $crate::host::router);
        };
    };
}

/// Exports a type with an [`Observer`].
#[macro_export]
#[doc(hidden)]
macro_rules! __export_observer {
    ($plugin:ty) => {
        const _: () = {
            type Exported = $crate::host::ObserverOf<$plugin>;
            $crate::host::observer::export_observer!(
                Exported with_types_in $crate::host::observer
            );
        };
    };
}

/// Exports a type with [`Tools`].
#[macro_export]
#[doc(hidden)]
macro_rules! __export_tools {
    ($plugin:ty) => {
        const _: () = {
            type Exported = $crate::host::ToolsOf<$plugin>;
    $crate::host::tools::export_tools!(Exported with_types_in $crate::host::tools);
        };
    };
}

/// Exports a type with [`Transfers`].
#[macro_export]
#[doc(hidden)]
macro_rules! __export_transfers {
    ($plugin:ty) => {
        const _: () = {
            type Exported = $crate::host::TransfersOf<$plugin>;
            $crate::host::transfers::export_transfers!(
                Exported with_types_in $crate::host::transfers
            );
        };
    };
}

/// Logs the message of a panic. The trap that follows has the place, not the message.
fn report_panics() {
    panic::set_hook(Box::new(|panic| super::log_write(Level::Error, &panic.to_string())));
}
