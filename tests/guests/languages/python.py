"""Acts on the dialled number: `count`, `reach`, `raise` or `refuse`."""

import os
import sys

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import http, kv
from wit_world.imports.types import Call, Decision, Route, Verdict_Pass, Verdict_Route

calls = 0


class Router(exports.Router):
    def decide(self, call: Call) -> Decision:
        global calls
        calls += 1
        if call.to == "count":
            return route(f"ws://sts/?calls={calls}")
        if call.to == "reach":
            return route("ws://sts/?" + "&".join(f"{name}={count}" for name, count in count_access().items()))
        if call.to == "raise":
            return {}["the plan is missing"]
        if call.to == "refuse":
            raise Err("the plan says no")
        return Decision(Verdict_Pass(), None)


def route(url: str) -> Decision:
    return Decision(Verdict_Route(Route(url, None)), None)


def count_access() -> dict[str, int]:
    """Counts the resources of the standard library that the plugin can access."""
    return {
        "environment": len(os.environ),
        "arguments": len(sys.argv),
        "files": count(
            lambda: os.listdir("/"),
            lambda: open("/etc/passwd").read(),
            lambda: open("/tmp/plugboard", "w"),
            lambda: open(__file__).read(),
        ),
        "network": count(
            lambda: __import__("socket").create_connection(("127.0.0.1", 9000)),
            lambda: http.send(http.Request("GET", "http://127.0.0.1:9000/", [], b"", None)),
        ),
        "processes": count(
            lambda: __import__("subprocess").run(["true"]),
            lambda: os.system("true"),
            lambda: os.fork(),
        ),
        "values": count(lambda: kv.set("key", b"value", None)),
    }


def count(*attempts) -> int:
    """Returns the number of attempts that do not raise an exception."""
    succeeded = 0
    for attempt in attempts:
        try:
            attempt()
            succeeded += 1
        except Exception:
            pass
    return succeeded
