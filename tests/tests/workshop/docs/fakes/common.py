"""Parts that the fakes share: state, processes, and options of commands."""

import json
import os
import pathlib
import sys
import time

# State of the fakes, which ends with the sandbox.
RUN = pathlib.Path("/run/fakes")
RUN.mkdir(exist_ok=True)

SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Time limit in seconds for a start; the machine may be busy.
START_LIMIT = 120


def fail(message):
    """Ends the command with an error."""
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    sys.exit(1)


def _file(kind, name):
    return RUN / kind / (name.replace("/", "_") + ".json")


def save(kind, name, value):
    """Stores a value."""
    file = _file(kind, name)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value))


def load(kind, name):
    """Returns a stored value, or None."""
    file = _file(kind, name)
    return json.loads(file.read_text()) if file.exists() else None


def remove(kind, name):
    """Removes a stored value."""
    _file(kind, name).unlink()


def alive(pid):
    """Returns whether a process runs."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition, limit):
    """Waits until a condition holds, and returns whether it does within the limit in seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def wait_until_ready(process, is_ready, log):
    """Waits until a started process is ready. Fails with its log if it ends before."""
    ready = wait_until(lambda: process.poll() is not None or is_ready(), START_LIMIT)
    if process.poll() is not None or not ready:
        text = pathlib.Path(log).read_text()
        fail(f"the program is not ready; its exit status is {process.poll()}\n{text}")


def options(arguments, flags=(), values=()):
    """Splits arguments into options and the rest, which begins at the first other argument.

    Each option has a list of its values. Unknown options are errors.
    """
    found, rest = {}, list(arguments)
    while rest and rest[0].startswith("--"):
        name, separator, value = rest.pop(0)[2:].partition("=")
        if name in flags and not separator:
            found[name] = ["true"]
        elif name in values:
            if not separator and not rest:
                fail(f"--{name} needs a value")
            found.setdefault(name, []).append(value if separator else rest.pop(0))
        else:
            fail(f"this fake does not know the option --{name}{separator}{value}")
    return found, rest
