"""Containers of the fakes: the program of an image, in namespaces of its own.

A container sees the files of the sandbox, with the files of the image, its volumes, and the
user, environment and working directory of the image. It has a network of its own; a
published port is forwarded to it.
"""

import os
import pathlib
import shlex
import signal
import subprocess
import sys
import uuid

from common import RUN, SERVICE_PATH, alive, fail, load, remove, save, wait_until, wait_until_ready
from images import find

# Address of a container in its own network. A program that listens on 127.0.0.1 only is not
# reachable at it.
ADDRESS = "172.18.0.2"

VOLUMES = pathlib.Path("/var/lib/docker/volumes")


def volume(name, image):
    """Returns the directory of a named volume. A new one gets the owner of the image's directory."""
    folder = VOLUMES / name / "_data"
    if not folder.exists():
        folder.mkdir(parents=True)
        for flags, target in image["files"]:
            if isinstance(flags, dict) and target in image["volumes"]:
                folder.chmod(int(flags["chmod"], 8))
                os.chown(folder, *map(int, flags["chown"].split(":")))
    return folder


def mount(spec, image):
    """Returns the source, the target and the mode of a `--volume`."""
    source, target, *mode = spec.split(":")
    if mode not in ([], ["ro"]):
        fail(f"invalid mode in {spec}")
    if source.startswith(("/", "./")):
        path = pathlib.Path(source).resolve()
        if not path.exists():
            fail(f"{path} does not exist; docker would create an empty directory")
    else:
        path = volume(source, image)
    return [str(path), target, mode]


def create(name, image_name, volumes, environment, command=(), read_only=True):
    """Returns the description of a container, and stores it under its name, if it has one."""
    image = find(image_name)
    variables = {"PATH": SERVICE_PATH, **image["env"], **environment}
    mounts = [mount(spec, image) for spec in volumes]
    # The image's other volumes are anonymous.
    targets = [target for _, target, _ in mounts]
    mounts += [[str(volume(uuid.uuid4().hex, image)), target, []]
               for target in image["volumes"] if target not in targets]
    mounts += [[*file, ["ro"]] for file in image["files"] if isinstance(file[0], str)]
    container = {
        "image": image_name, "env": variables, "mounts": mounts, "read_only": read_only,
        "user": image["user"], "workdir": image["workdir"], "health": image["health"],
        "command": [*image["entrypoint"], *(command or image["cmd"])],
    }
    if name:
        if load("containers", name):
            fail(f"the container name {name} is already in use")
        save("containers", name, container)
    return container


def _as_user(container, command):
    user, group = container["user"].split(":")
    variables = [f"{key}={value}" for key, value in container["env"].items()]
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups",
            "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs",
            "env", "--ignore-environment", *variables, *command]


def _command(container):
    """Returns the command that makes the namespaces and becomes the container's program."""
    lines = ["set -e", "ip link set lo up", f"ip address add {ADDRESS}/32 dev lo"]
    for source, target, mode in container["mounts"]:
        make = f"mkdir -p {shlex.quote(target)}"
        if not pathlib.Path(source).is_dir():
            make = f"mkdir -p $(dirname {shlex.quote(target)}) && touch {shlex.quote(target)}"
        lines.append(make)
        lines.append(shlex.join(["mount", "--bind", source, target]))
        if mode:
            lines.append(shlex.join(["mount", "-o", "remount,bind,ro", target]))
    if container["read_only"]:
        lines.append("mount -o remount,bind,ro /")
    lines.append(f"cd {shlex.quote(container['workdir'])}")
    lines.append("exec " + shlex.join(_as_user(container, container["command"])))
    return ["unshare", "--mount", "--net", "bash", "-c", "\n".join(lines)]


def start(name, publish=()):
    """Starts a container in the background, and waits until its health check succeeds."""
    container = load("containers", name) or fail(f"No such container: {name}")
    publish = publish or container.get("publish", [])
    log = open(RUN / f"{name}.log", "ab")
    process = subprocess.Popen(
        _command(container), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        start_new_session=True)
    container.update(pid=process.pid, publish=list(publish))
    save("containers", name, container)
    wait_until_ready(process, lambda: execute(name, container["health"], True) == 0, log.name)
    for port in publish:
        forward(process.pid, port)


def forward(pid, spec):
    """Forwards a published port, `[ADDRESS:]HOST:CONTAINER`, to a container."""
    *address, host, inner = spec.split(":")
    script = pathlib.Path(__file__).with_name("forward.py")
    ready = RUN / f"forward-{pid}-{host}"
    os.mkfifo(ready)
    subprocess.Popen(
        [sys.executable, script, str(pid), *(address or ["0.0.0.0"]), host, inner, ready],
        start_new_session=True)
    if ready.read_text() != "ready":
        fail(f"cannot publish port {host}: it is in use")


def run(container):
    """Runs a container in the foreground, and returns its exit status."""
    return subprocess.run(_command(container)).returncode


def execute(name, command, quiet=False):
    """Runs a command in a running container, and returns its exit status."""
    container = running(name)
    enter = ["nsenter", f"--target={container['pid']}", "--mount", "--net"]
    enter += ["--root", f"--wdns={container['workdir']}"]
    return subprocess.run([*enter, *_as_user(container, command)], capture_output=quiet).returncode


def running(name):
    """Returns a container, which must run."""
    container = load("containers", name) or fail(f"No such container: {name}")
    if not alive(container.get("pid", 0)):
        fail(f"container {name} is not running")
    return container


def stop(name, limit):
    """Sends SIGTERM, and waits until the container ends."""
    pid = running(name)["pid"]
    os.kill(pid, signal.SIGTERM)
    if not wait_until(lambda: not alive(pid), limit):
        fail(f"{name} did not end within {limit} s")


def delete(name):
    """Removes a stopped container."""
    container = load("containers", name) or fail(f"No such container: {name}")
    if alive(container.get("pid", 0)):
        fail(f"container {name} is running: stop it first")
    remove("containers", name)
