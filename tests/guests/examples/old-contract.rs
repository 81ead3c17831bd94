//! Uses a version of the contract that the host does not support.
#[cfg(target_family = "wasm")]
mod component {
    wit_bindgen::generate!({
        inline: "
            package plugboard:plugin@0.0.9;
            interface config { get: func(key: string) -> string; }
            interface router { decide: func() -> string; }
            world plugin { import config; export router; }
        ",
    });

    struct Plugin;

    impl exports::plugboard::plugin::router::Guest for Plugin {
        fn decide() -> String {
            plugboard::plugin::config::get("x")
        }
    }

    export!(Plugin);
}
