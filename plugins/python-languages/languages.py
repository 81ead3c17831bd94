"""Answers callers in the language of the country that they call from.

The prefix of the caller's number leads to a language, and the language to the
voice agent that speaks it: a speech-to-speech service, a prompt, or both. Whoever
does not say where he calls from, or calls from elsewhere, is answered in the
language `otherwise`, if there is one, and else left to the next plugin.
`python-languages.toml` has the settings.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import config, log
from wit_world.imports.types import (
    Cache,
    Call,
    Decision,
    Route,
    Verdict_Pass,
    Verdict_Route,
)

# For how long the host may answer from its cache, in milliseconds. A change of the
# settings empties it, so this only bounds its size.
TTL = 300_000

# Longer than any number: E.164 has 15 digits, and some may come with "00".
LONGEST = 17


class Router(exports.Router):
    """The hook `router` of the contract."""

    def decide(self, call: Call) -> Decision:
        language = language_of(call.from_ or "") or config.get("otherwise")
        verdict = Verdict_Pass() if language is None else answer_in(language)
        return Decision(verdict, Cache(TTL, ["from"]))


def language_of(caller: str) -> str | None:
    """The language of a caller; none when his number does not tell."""
    digits = international(caller)
    if digits is None:
        return None
    prefixes = setting("prefixes")
    # The longest one wins: Canada and the Caribbean share their first digit.
    for end in range(len(digits), 0, -1):
        if language := prefixes.get(digits[:end]):
            return language
    return None


def international(caller: str) -> str | None:
    """A number with its country's prefix, in digits alone.

    What a caller sends may be any text, so anything else is nobody's number.
    """
    number = "".join(sign for sign in caller if sign not in " -./()")
    for start in ("+", "00"):
        digits = number.removeprefix(start)
        if digits != number and len(number) <= LONGEST and digits.isascii() and digits.isdigit():
            return digits
    return None


def answer_in(language: str) -> Verdict_Route:
    """The agent that speaks a language."""
    agent = setting("languages").get(language)
    if agent is None:
        # What is foreseen is said with Err: the words are all that is logged.
        raise Err(f"the settings name a language, but have no [config.languages.{language}]")
    log.write(log.Level.DEBUG, f"the caller's language is {language}")
    return Verdict_Route(Route(agent.get("sts_url"), agent.get("prompt")))


def setting(key: str) -> dict:
    """A table of the settings, which comes as JSON."""
    text = config.get(key)
    if text is None:
        raise Err(f"the settings have no [config.{key}]")
    return json.loads(text)
