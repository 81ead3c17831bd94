//! Routes every call to `beta`, with the setting `tag` in the query. Its twin is
//! `alpha`: the two are versions of one plugin.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(_: &Call) -> Result<Decision> {
        let tag = config::get("tag").unwrap_or_default();
        let decision = route(format!("ws://beta:6030/?tag={tag}&uuid={{id}}"));
        Ok(decision.cached(Duration::from_secs(60), ["to"]))
    }
}

plugboard_sdk::export!(Guest: Router);
