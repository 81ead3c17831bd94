//! The guests are this crate's examples: a component each, with one behaviour.
