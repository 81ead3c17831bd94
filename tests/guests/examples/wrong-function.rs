//! Imports a function that a known interface does not have.
#[cfg(target_family = "wasm")]
mod component {
    wit_bindgen::generate!({
        inline: "
            package plugboard:plugin@0.1.0;
            interface config { teleport: func(key: string) -> string; }
            interface router { decide: func() -> string; }
            world plugin { import config; export router; }
        ",
    });

    struct Plugin;

    impl exports::plugboard::plugin::router::Guest for Plugin {
        fn decide() -> String {
            plugboard::plugin::config::teleport("x")
        }
    }

    export!(Plugin);
}
