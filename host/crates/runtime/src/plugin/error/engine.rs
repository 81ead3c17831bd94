//! Errors of wasmtime: text that is safe to print, and conditions that only the text
//! reveals.

use std::error::Error;
use std::fmt;

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::capability::log::MAX_MESSAGE;
use crate::plugin::backtrace;
use plugboard_core::text::sanitize;

/// Longest text of an error that a guest caused in a call, in bytes.
pub(in crate::plugin) const MAX_ERROR: usize = 1024;

/// An error of wasmtime.
///
/// It can quote names from the plugin's file. Its text is therefore truncated and on one
/// line; the text of its [source](Error::source) is neither.
#[derive(Debug)]
pub struct EngineError {
    text: String,
    source: wasmtime::Error,
}

impl EngineError {
    /// Creates an error of loading, with the text of all causes.
    pub(in crate::plugin) fn new(source: wasmtime::Error) -> Self {
        Self { text: sanitize(&format!("{source:#}"), MAX_MESSAGE), source }
    }

    /// Creates the error of a call, with the text of its root cause and the innermost
    /// functions.
    pub(in crate::plugin) fn from_trap(source: wasmtime::Error) -> Self {
        let mut text = match (source.downcast_ref::<Trap>(), source.downcast_ref::<I32Exit>()) {
            (Some(trap), _) => trap.to_string(),
            (_, Some(exit)) => format!("the plugin exited with code {}", exit.0),
            _ => source.root_cause().to_string(),
        };
        let trace = source.downcast_ref::<WasmBacktrace>();
        if let Some(location) = trace.and_then(backtrace::trap_location) {
            text = format!("{text}, in {location}");
        }
        Self { text: sanitize(&text, MAX_ERROR), source }
    }

    /// Creates an error with this text, for the reference of errors.
    pub fn from_text(text: &'static str) -> Self {
        Self { text: text.to_owned(), source: wasmtime::Error::msg(text) }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// Condition that wasmtime reports by an error of a private type, so that only the text
/// reveals it. The tests fail if an update changes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin) enum EngineCondition {
    /// The component needs more than the instance pool reserves for one instance.
    ExceedsPoolLimits,
    /// One host call passed more data than the store's host-call fuel.
    HostCallFuelExhausted,
}

impl EngineCondition {
    /// Returns the condition that an error reports, if it is one of these.
    pub(in crate::plugin) fn of(error: &wasmtime::Error) -> Option<Self> {
        // Excludes the contexts, because those of a trap quote the guest's function names.
        if error.root_cause().to_string().contains("fuel allocated for hostcalls") {
            return Some(Self::HostCallFuelExhausted);
        }
        let exceeds_pool =
            error.chain().any(|cause| cause.to_string().contains("pooling allocator requirements"));
        exceeds_pool.then_some(Self::ExceedsPoolLimits)
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::component::{Component, Linker};
    use wasmtime::{Engine, Store};

    use super::*;
    use crate::engine::{self, Purpose};

    const COMPONENT_HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
    /// Instantiates core module 0 without arguments.
    const CORE_INSTANCE: &[u8] = &[0x02, 4, 1, 0, 0, 0];

    /// Returns a component that begins with this core module.
    fn component(module_sections: &[u8], rest: &[&[u8]]) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.extend_from_slice(module_sections);
        let mut bytes = COMPONENT_HEADER.to_vec();
        bytes.extend_from_slice(&[0x01, module.len().try_into().unwrap()]);
        bytes.extend_from_slice(&module);
        rest.iter().for_each(|section| bytes.extend_from_slice(section));
        bytes
    }

    #[test]
    fn component_beyond_pool_limits_is_recognized() {
        // Three tables; the pool has two for a module.
        let bytes = component(&[0x04, 10, 3, 0x70, 0, 0, 0x70, 0, 0, 0x70, 0, 0], &[CORE_INSTANCE]);
        let engine = engine::Engine::start(&Default::default(), Purpose::Serve { threads: 1 });
        let error = Component::from_binary(engine.unwrap().wasm(), &bytes).err().unwrap();
        assert_eq!(EngineCondition::of(&error), Some(EngineCondition::ExceedsPoolLimits));
    }

    #[test]
    fn exhausted_host_call_fuel_is_recognized() {
        // (module
        //   (memory (export "m") 1)
        //   (func (export "f") (result i32) i32.const 0)
        //   (data (i32.const 0) "\10\00\00\00\40\00\00\00")) ;; a string of 64 bytes
        let module: &[&[u8]] = &[
            &[0x01, 5, 1, 0x60, 0, 1, 0x7f],
            &[0x03, 2, 1, 0],
            &[0x05, 3, 1, 0, 1],
            &[0x07, 9, 2, 1, b'm', 2, 0, 1, b'f', 0, 0],
            &[0x0a, 6, 1, 4, 0, 0x41, 0, 0x0b],
            &[0x0b, 14, 1, 0, 0x41, 0, 0x0b, 8, 0x10, 0, 0, 0, 0x40, 0, 0, 0],
        ];
        // (func (export "f") (result string)
        //   (canon lift (core func $instance "f") (memory $instance "m")))
        let rest: &[&[u8]] = &[
            CORE_INSTANCE,
            &[0x06, 13, 2, 0, 0, 1, 0, 1, b'f', 0, 2, 1, 0, 1, b'm'],
            &[0x07, 5, 1, 0x40, 0, 0, 0x73],
            &[0x08, 8, 1, 0, 0, 0, 1, 3, 0, 0],
            &[0x0b, 7, 1, 0, 1, b'f', 1, 0, 0],
        ];
        let engine = Engine::default();
        let component = Component::from_binary(&engine, &component(&module.concat(), rest));
        let mut store = Store::new(&engine, ());
        let instance = Linker::new(&engine).instantiate(&mut store, &component.unwrap()).unwrap();
        let function = instance.get_typed_func::<(), (String,)>(&mut store, "f").unwrap();
        assert_eq!(function.call(&mut store, ()).unwrap().0.len(), 64);
        store.set_hostcall_fuel(16);
        let error = function.call(&mut store, ()).err().unwrap();
        assert_eq!(EngineCondition::of(&error), Some(EngineCondition::HostCallFuelExhausted));
    }

    #[test]
    fn error_text_is_one_line_and_source_is_kept() {
        let error = EngineError::new(wasmtime::Error::msg("a\nb").context("c"));
        assert_eq!(error.to_string(), "c: a b");
        assert_eq!(error.source().unwrap().to_string(), "c");
    }
}
