//! Rust bindings of the plugin contract, generated from `wit/`.

wasmtime::component::bindgen!({
    path: "../../../wit",
    // With every hook. What a plugin exports of them is found out when it is
    // loaded.
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
