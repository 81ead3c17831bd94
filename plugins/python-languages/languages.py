"""Answers callers in the language of the country that they call from.

The prefix of the caller's number determines the language, and the language the
voice agent: a speech-to-speech service, a prompt, or both. Callers without a
number, or from other countries, get the language `otherwise`. Without this
setting, the plugin passes. `python-languages.toml` has the settings.
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

# Time to live of a cached decision, in milliseconds. A change of the settings empties
# the cache, so this only limits the cache's size.
TTL = 300_000

# Maximum length of a number: E.164 has 15 digits, and a number can begin with "00".
LONGEST = 17


class Router(exports.Router):
    """The hook `router` of the contract."""

    def decide(self, call: Call) -> Decision:
        language = language_of(call.from_ or "") or config.get("otherwise")
        verdict = Verdict_Pass() if language is None else answer_in(language)
        return Decision(verdict, Cache(TTL, ["from"]))


def language_of(caller: str) -> str | None:
    """Return the language of a caller, or None if no prefix matches the number."""
    digits = international(caller)
    if digits is None:
        return None
    prefixes = setting("prefixes")
    # The longest prefix wins: Canada and the Caribbean share the first digit.
    for end in range(len(digits), 0, -1):
        if language := prefixes.get(digits[:end]):
            return language
    return None


def international(caller: str) -> str | None:
    """Return the digits of an international number, or None for any other text.

    The caller can send any text as caller ID.
    """
    number = "".join(sign for sign in caller if sign not in " -./()")
    for start in ("+", "00"):
        digits = number.removeprefix(start)
        if digits != number and len(number) <= LONGEST and digits.isascii() and digits.isdigit():
            return digits
    return None


def answer_in(language: str) -> Verdict_Route:
    """Return the route to the agent that speaks a language."""
    agent = setting("languages").get(language)
    if agent is None:
        # With Err, the host logs only the message, without a traceback.
        raise Err(f"the settings lack [config.languages.{language}], which a prefix names")
    log.write(log.Level.DEBUG, f"the caller's language is {language}")
    return Verdict_Route(Route(agent.get("sts_url"), agent.get("prompt")))


def setting(key: str) -> dict:
    """Return a table of the settings, which the host passes as JSON."""
    text = config.get(key)
    if text is None:
        raise Err(f"the settings lack [config.{key}]")
    return json.loads(text)
