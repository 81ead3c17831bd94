//! A dial plan: maps the dialled number to a speech-to-speech service.
//!
//! The plan is the plugin's `[config]`: exact numbers, and prefixes with a `*` at the end.
//! An exact number takes precedence over a prefix, and a longer prefix over a shorter one.
//! For other numbers, the plugin passes.

use plugboard_sdk::prelude::*;

/// Time to live of a cached decision. A change of the plan empties the cache, so this only
/// limits the cache's size.
const TTL: Duration = Duration::from_secs(300);

/// Maximum length of a number in the plan. E.164 has at most 15 digits.
const LONGEST: usize = 32;

struct NumberPlan;

impl Router for NumberPlan {
    fn decide(call: &Call) -> Result<Decision> {
        let number = call.to().unwrap_or_default();
        let decision = match find(number) {
            Some(sts_url) => route(sts_url),
            None => pass(),
        };
        Ok(decision.cached(TTL, ["to"]))
    }
}

fn find(number: &str) -> Option<String> {
    if number.len() > LONGEST || number.contains('*') {
        return None;
    }
    let prefixes = number.char_indices().rev().map(|(end, _)| &number[..end]);
    let patterns = [number].into_iter().chain(prefixes).map(|prefix| format!("{prefix}*"));
    config::get(number).or_else(|| patterns.into_iter().find_map(|pattern| config::get(&pattern)))
}

plugboard_sdk::export!(NumberPlan: Router);

#[cfg(test)]
mod tests {
    use plugboard_sdk::testing::Host;

    use super::*;

    fn dial(number: &str) -> Option<String> {
        let host = Host::new()
            .with_config("5001", "ws://exact")
            .with_config("50*", "ws://fifty")
            .with_config("5*", "ws://five");
        let decision = host.decide::<NumberPlan>(&Call::new("1").with_to(number)).unwrap();
        assert_eq!(decision.cache(), Some((TTL, ["to".to_owned()].as_slice())));
        decision.sts_url().map(str::to_owned)
    }

    #[test]
    fn exact_number_wins_over_longest_prefix() {
        assert_eq!(dial("5001").as_deref(), Some("ws://exact"));
        assert_eq!(dial("50011").as_deref(), Some("ws://fifty"));
        assert_eq!(dial("50").as_deref(), Some("ws://fifty"));
        assert_eq!(dial("51").as_deref(), Some("ws://five"));
    }

    #[test]
    fn unknown_numbers_are_passed() {
        for number in ["6000", "", "50*", "é", &"5".repeat(LONGEST + 1)] {
            assert_eq!(dial(number), None, "{number}");
        }
    }
}
