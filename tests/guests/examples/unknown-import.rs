//! Imports an interface that the host does not provide.
#[cfg(target_family = "wasm")]
mod component {
    wit_bindgen::generate!({
        inline: "
            package acme:crm@1.0.0;
            interface lookup { find: func(number: string) -> string; }
            world plugin { import lookup; export decide: func() -> string; }
        ",
    });

    struct Plugin;

    impl Guest for Plugin {
        fn decide() -> String {
            acme::crm::lookup::find("1")
        }
    }

    export!(Plugin);
}
