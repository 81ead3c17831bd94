//! The guests are the examples of this crate. Each is one component with one behaviour.

// `cargo test --doc` compiles and runs the Rust blocks of the documents. They are not in the SDK
// itself, because its package does not contain the documents.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    mod readme {}
    #[doc = include_str!("../../../docs/guide/first-plugin.md")]
    mod first_plugin {}
    #[doc = include_str!("../../../docs/guide/decisions.md")]
    mod decisions {}
    #[doc = include_str!("../../../docs/guide/state-and-http.md")]
    mod state_and_http {}
    #[doc = include_str!("../../../docs/guide/testing.md")]
    mod testing {}
    #[doc = include_str!("../../../docs/guide/tools-and-events.md")]
    mod tools_and_events {}
    #[doc = include_str!("../../../guest-sdk/README.md")]
    mod sdk_readme {}
}
