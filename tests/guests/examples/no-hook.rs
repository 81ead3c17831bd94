//! A component that exports nothing that we call.

/// Something, so that there is a module.
#[unsafe(no_mangle)]
pub extern "C" fn something() -> u32 {
    std::env::vars().count() as u32
}
