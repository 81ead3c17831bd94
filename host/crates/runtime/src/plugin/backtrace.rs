//! Backtraces of traps: demangled function names, and file and line where the guest has
//! debug information.

use std::borrow::Cow;

use wasmtime::WasmBacktrace;

/// Maximum number of frames in the message of a trap.
const MAX_MESSAGE_FRAMES: usize = 4;

/// Longest mangled name of a function that is demangled, in bytes.
const MAX_NAME: usize = 256;

/// Function on the stack of a trapped guest.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Frame {
    /// Demangled name. `None`: the guest has no names.
    pub function: Option<String>,
    /// Index of the function in its module.
    pub index: u32,
    /// Source file, if the guest has debug information and the engine reads it.
    pub file: Option<String>,
    /// Line in the source file.
    pub line: Option<u32>,
}

impl Frame {
    /// Returns whether only the index is known.
    pub fn is_nameless(&self) -> bool {
        self.function.is_none() && self.file.is_none()
    }

    /// Returns whether the function belongs to the standard library, the SDK or generated
    /// bindings, and not to the author's code.
    pub fn is_runtime_code(&self) -> bool {
        const NAMES: [&str; 12] = [
            "std::",
            "core::",
            "alloc::",
            "<std::",
            "<core::",
            "<alloc::",
            "__rust",
            "__rustc::",
            "rust_",
            "plugboard_sdk::",
            "<plugboard_sdk::",
            "wit_bindgen::",
        ];
        const FILES: [&str; 4] = ["/rustc/", "/library/std/", "/library/core/", "/library/alloc/"];
        let file = self.file.as_deref().unwrap_or_default();
        let function = self.function.as_deref().unwrap_or_default();
        function == "abort"
            || NAMES.iter().any(|name| function.starts_with(name))
            || FILES.iter().any(|part| file.contains(part))
    }
}

/// Returns all frames, innermost first, including each inlined function.
pub(super) fn frames(backtrace: &WasmBacktrace) -> Vec<Frame> {
    let mut frames = Vec::new();
    for frame in backtrace.frames() {
        let index = frame.func_index();
        let outer_name = frame.func_name().map(|name| demangle(name).into_owned());
        if frame.symbols().is_empty() {
            frames.push(Frame { function: outer_name, index, file: None, line: None });
            continue;
        }
        for symbol in frame.symbols() {
            let inlined_name = symbol.name().map(|name| demangle(name).into_owned());
            frames.push(Frame {
                function: inlined_name.or_else(|| outer_name.clone()),
                index,
                file: symbol.file().map(str::to_owned),
                line: symbol.line(),
            });
        }
    }
    frames
}

/// Returns the location of a trap: the innermost functions that have names.
pub(super) fn trap_location(backtrace: &WasmBacktrace) -> Option<String> {
    let names = backtrace.frames().iter().filter_map(|frame| frame.func_name());
    let frames: Vec<String> = names
        .take(MAX_MESSAGE_FRAMES)
        .filter(|name| name.len() <= MAX_NAME)
        .map(|name| demangle(name).into_owned())
        .collect();
    (!frames.is_empty()).then(|| frames.join(" < "))
}

/// Demangles a name, if it is a Rust name. The guest controls its names, so long ones are
/// not parsed.
fn demangle(name: &str) -> Cow<'_, str> {
    if name.len() > MAX_NAME {
        return Cow::Owned(format!("a function with a name of {} bytes", name.len()));
    }
    match rustc_demangle::try_demangle(name) {
        Ok(name) => Cow::Owned(format!("{name:#}")),
        Err(_) => Cow::Borrowed(name),
    }
}
