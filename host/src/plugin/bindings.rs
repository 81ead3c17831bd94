//! The contract in Rust, made from `wit/`.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "router-plugin",
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});
