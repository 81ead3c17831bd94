"""`docker compose` of the fake docker, for compose.yaml in the working directory.

It starts the services that have a build context. The images of the others are not available
in the sandbox: only their keys and variables are checked.
"""

import os
import pathlib
import re

import yaml

import containers
import images
from common import alive, fail, load

KEYS = (
    "image build restart environment volumes ports healthcheck stop_grace_period read_only"
    " cap_drop security_opt networks platform profiles"
).split()


def _variables():
    """Returns the variables of .env, which those of the environment override."""
    file, variables = pathlib.Path(".env"), {}
    if file.exists():
        if file.stat().st_mode & 0o077:
            fail(".env has secrets, but other users can read it")
        variables.update(line.split("=", 1) for line in file.read_text().splitlines() if line)
    return {**variables, **os.environ}


def _substitute(text):
    variables = _variables()

    def value(match):
        name, operator, word = match.groups()
        if found := variables.get(name):
            return found
        if operator == ":?":
            fail(f"required variable {name} is missing: {word}")
        if operator != ":-":
            fail(f"the variable {name} is not set")
        return word

    return re.sub(r"\$\{(\w+)(:[?-])?([^}]*)\}", value, text)


def _services():
    file = pathlib.Path("compose.yaml")
    if not file.exists():
        fail(f"no configuration file provided: {file.resolve()} not found")
    document = yaml.safe_load(file.read_text())
    services = {}
    for name, service in document["services"].items():
        if unknown := set(service) - set(KEYS):
            fail(f"services.{name}: unknown keys {unknown}")
        if "profiles" not in service:
            services[name] = yaml.safe_load(_substitute(yaml.safe_dump(service)))
    return document, services


def _container(document, name):
    return f"{document['name']}-{name}-1"


def up(build):
    """Starts the services."""
    document, services = _services()
    for name, service in services.items():
        if "build" not in service:
            print(f"{name}: checked, but not started: {service['image']} is not available")
            continue
        if build:
            context = pathlib.Path(service["build"]["context"])
            images.build(context / service["build"]["dockerfile"], context, service["image"])
        volumes = []
        for spec in service["volumes"]:
            source = spec.split(":")[0]
            if not source.startswith((".", "/")):
                if source not in document["volumes"]:
                    fail(f"services.{name}: undefined volume {source}")
                spec = f"{document['name']}_{spec}"
            volumes.append(spec)
        environment = {key: str(value) for key, value in service["environment"].items()}
        container = _container(document, name)
        containers.create(container, service["image"], volumes, environment)
        containers.start(container, service["ports"])


def ps():
    """Prints the services that run."""
    document, services = _services()
    for name in services:
        container = load("containers", _container(document, name))
        state = "running" if container and alive(container["pid"]) else "not available"
        print(f"{name:20}{state}")
