//! Routes every call to `beta`, with the setting `tag` in the query. Tests use it and
//! `alpha` as two versions of one plugin.
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
