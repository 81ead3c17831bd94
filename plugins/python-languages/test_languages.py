"""Native tests, with the generated bindings and a fake host.

    python -m unittest
"""

import json
import unittest
from unittest.mock import patch

import languages
from componentize_py_types import Err
from wit_world.imports import config, log
from wit_world.imports.types import Cache, Call, Decision, Route, Verdict_Pass, Verdict_Route

SETTINGS = {
    "prefixes": {"1": "english", "1809": "spanish", "39": "italian", "49": "german"},
    "languages": {
        "english": {"prompt": "Answer in English."},
        "spanish": {"sts_url": "ws://spanish"},
        "italian": {"prompt": "Rispondi in italiano.", "sts_url": "ws://italian"},
    },
}


def decide(caller: str | None, settings: dict = SETTINGS) -> Decision:
    """Return the plugin's decision about a caller."""

    def get(key: str) -> str | None:
        value = settings.get(key)
        return value if value is None or isinstance(value, str) else json.dumps(value)

    with patch.object(config, "get", get), patch.object(log, "write"):
        call = Call("1", "avr", None, caller, "5001", [])
        return languages.Router().decide(call)


class Languages(unittest.TestCase):
    def test_longest_prefix_determines_language(self):
        italian = Route("ws://italian", "Rispondi in italiano.")
        for caller in ["+39021234567", "0039 02 1234567", "+39 (02) 123-45.67"]:
            self.assertEqual(decide(caller).verdict, Verdict_Route(italian), caller)
        english = Route(None, "Answer in English.")
        self.assertEqual(decide("+12125550123").verdict, Verdict_Route(english))
        self.assertEqual(decide("+18095550123").verdict, Verdict_Route(Route("ws://spanish", None)))

    def test_unknown_callers_are_passed(self):
        for caller in [None, "", "anonymous", "2000", "+44201234567", "+", "00", "+39x", "+٣٩١", "+" + "39" * 20]:
            self.assertEqual(decide(caller), Decision(Verdict_Pass(), Cache(300_000, ["from"])), caller)

    def test_unknown_callers_get_default_language(self):
        english = Verdict_Route(Route(None, "Answer in English."))
        for caller in [None, "2000", "+44201234567"]:
            self.assertEqual(decide(caller, SETTINGS | {"otherwise": "english"}).verdict, english, caller)

    def test_missing_settings_are_named(self):
        with self.assertRaises(Err) as raised:
            decide("+49301234567")
        self.assertIn("[config.languages.german]", raised.exception.value)
        with self.assertRaises(Err) as raised:
            decide("+49301234567", {})
        self.assertIn("[config.prefixes]", raised.exception.value)


if __name__ == "__main__":
    unittest.main()
