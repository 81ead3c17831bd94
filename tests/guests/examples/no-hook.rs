//! Component that exports none of the hooks.

/// Gives the component code, so that it contains a module.
#[unsafe(no_mangle)]
pub extern "C" fn something() -> u32 {
    std::env::vars().count() as u32
}
