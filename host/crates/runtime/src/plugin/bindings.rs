//! Rust bindings of the plugin contract, generated from `wit/`.

wasmtime::component::bindgen!({
    path: "../../../wit",
    // This world has every hook. Loading determines the hooks that a plugin exports.
    world: "full-plugin",
    imports: {
        "plugboard:plugin/kv.get": async,
        "plugboard:plugin/kv.set": async,
        "plugboard:plugin/kv.delete": async,
        "plugboard:plugin/kv.increment": async,
        "plugboard:plugin/kv.compare-and-swap": async,
        "plugboard:plugin/http.send": async,
    },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
});
