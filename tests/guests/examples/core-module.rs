//! Built for wasm32-unknown-unknown with its own linker: a core module.

/// Something to export.
#[unsafe(no_mangle)]
pub extern "C" fn decide() -> u32 {
    5001
}
