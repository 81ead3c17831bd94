//! Core module, not a component: built for wasm32-unknown-unknown with its own linker.

/// Gives the module one export.
#[unsafe(no_mangle)]
pub extern "C" fn decide() -> u32 {
    5001
}
