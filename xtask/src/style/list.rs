//! Words that the style check rejects. The check of words leaves out this file.

/// Path of this file.
pub const PATH: &str = "xtask/src/style/list.rs";

/// Pronouns that hide the actor of a sentence.
pub const PRONOUNS: &[&str] = &["who", "whom", "whoever", "what"];

/// First words of comments that neither name nor do anything.
pub const OPENINGS: &[&str] = &["What", "Whether", "Of", "For", "How"];

/// Words of test names that hide the subject.
pub const NAME_WORDS: &[&str] = &["who", "what", "nobody", "nothing"];

const ACTOR: &str = "name the actor: the caller, the plugin, the operator, the task";
const FIX: &str = "fix, fixed, repair";
const OUTCOME: &str = "result, outcome, effect";
const CIRCUIT: &str = "the circuit breaker opens; circuit_open";
const DEFERRED: &str = "deferred write, pending, due";

/// Words and phrases of the whole repository, each with its alternative. A space in a
/// phrase also matches the end of a line. The word `None` of Rust and Python is exempt.
pub const WORDS: &[(&str, &str)] = &[
    ("whoever", ACTOR),
    ("whomever", ACTOR),
    ("nobody", ACTOR),
    ("somebody", ACTOR),
    ("anybody", ACTOR),
    ("everybody", ACTOR),
    ("himself", ACTOR),
    ("he", ACTOR),
    ("him", ACTOR),
    ("his", ACTOR),
    ("told", "delivered, notified, sent, reported"),
    ("mend", FIX),
    ("mends", FIX),
    ("mended", FIX),
    ("mending", FIX),
    ("rubbish", "invalid input, garbage, malformed"),
    ("at the most", "at most"),
    ("is none", "is invalid, is absent, has no"),
    ("once more", "again, retry"),
    ("afresh", "again, from the start"),
    ("for ever", "indefinitely, forever, permanently"),
    ("so many", "the number; up to N"),
    ("comes of", OUTCOME),
    ("came of", OUTCOME),
    ("becomes of", OUTCOME),
    ("became of", OUTCOME),
    ("set aside", CIRCUIT),
    ("sets aside", CIRCUIT),
    ("set_aside", CIRCUIT),
    ("SetAside", CIRCUIT),
    ("owe", DEFERRED),
    ("owes", DEFERRED),
    ("owed", DEFERRED),
    ("debt", DEFERRED),
    ("debts", DEFERRED),
    ("bury", "dead-letter"),
    ("buries", "dead-letter"),
    ("buried", "dead-lettered"),
    ("upkeep", "retention, compaction, maintenance"),
    ("in disguise", "encoded, aliased"),
    ("makes no sense", "is invalid"),
    ("make no sense", "are invalid"),
    ("goes its own way", "is independent, is handled separately"),
    ("as ever", "as before, as usual"),
];

/// Literal data that keeps a listed word: file, text with the word, reason.
pub const ALLOWED: &[(&str, &str, &str)] = &[];
