"""Images of the fake docker: the last stage of a Containerfile, without its base image."""

import pathlib
import re
import shlex

from common import fail, load, save

INSTRUCTIONS = "FROM RUN WORKDIR COPY ARG USER VOLUME ENV EXPOSE HEALTHCHECK STOPSIGNAL ENTRYPOINT CMD"


def build(containerfile, context, tag):
    """Reads a Containerfile, checks the files that it copies, and stores the image."""
    file, context = pathlib.Path(containerfile), pathlib.Path(context)
    if not file.is_file():
        fail(f"cannot open {file}")
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    image = {}
    for line in filter(str.strip, text.splitlines()):
        instruction, _, value = line.partition(" ")
        if instruction not in INSTRUCTIONS.split():
            fail(f"{file}: unknown instruction {instruction}")
        if instruction == "FROM":
            # Later stages copy only from earlier ones, so the last stage is the image.
            image = {"env": {}, "files": [], "workdir": "/", "user": "0:0", "volumes": []}
        elif instruction == "COPY":
            words = shlex.split(value)
            flags = dict(word[2:].split("=") for word in words if word.startswith("--"))
            *sources, target = [word for word in words if not word.startswith("--")]
            if "from" not in flags:
                for source in sources:
                    if not (context / source).exists():
                        fail(f"{file}: {source} is not in the context {context}")
            elif sources[0].startswith("/source/"):
                image["files"].append([str(context.resolve() / sources[0][8:]), target])
            else:
                image["files"].append([flags, target])
        elif instruction == "ENV":
            image["env"].update(word.split("=", 1) for word in shlex.split(value))
        elif instruction in ("ENTRYPOINT", "CMD"):
            image[instruction.lower()] = [word.strip(' "') for word in value.strip("[] ").split(",")]
        elif instruction == "HEALTHCHECK":
            command = value.partition("CMD ")[2]
            image["health"] = [word.strip(' "') for word in command.strip("[] ").split(",")]
        elif instruction == "VOLUME":
            image["volumes"].append(value)
        else:
            image[instruction.lower()] = value
    for source, _ in image["files"]:
        if isinstance(source, str) and not pathlib.Path(source).exists():
            fail(f"{file}: {source} was not built")
    save("images", tag, image)


def find(name):
    """Returns an image that was built."""
    return load("images", name) or fail(f"there is no image {name}")
