"""Run the edits over every pyproject.toml in a directory: python tools/corpus_edit.py DIRECTORY.

Three edits a file: pins to cu128 as `uvtorch add torch torchvision torchaudio` writes them, three backend choices, and
all pins removed. For each file: what was done, or why it was refused. Beyond what `apply` verifies itself, the pins are
held against their meaning on plain dictionaries, written independently here, and against the lines of the original;
the removal may not add a byte. Exit code 1 if any of that fails.
"""

import difflib
import os
import sys
import time
import tomllib
from collections import Counter
from typing import Any

from tests.edits import (
    AddRequirement,
    Operation,
    RemoveIndex,
    RemoveRequirement,
    RemoveSources,
    SetConflicts,
    SetIndex,
    SetRequirement,
    SetSources,
    Source,
    apply,
)
from uvtorch.errors import ProjectError
from uvtorch.packages import normalize
from uvtorch.project.model import Item, Target

PACKAGES = ("torch", "torchvision", "torchaudio")
URL = "https://download.pytorch.org/whl/cu128"
ENTRY = {"index": "pytorch-cu128", "marker": "sys_platform == 'linux' or sys_platform == 'win32'"}


def operations(data: dict[str, Any]) -> list[Operation]:
    """Pins to cu128, through the project's own index of that URL if it has one, and a requirement for each."""
    indexes = data.get("tool", {}).get("uv", {}).get("index", [])
    name = next((index["name"] for index in indexes if index["url"].rstrip("/") == URL), "pytorch-cu128")
    taken = any(index.get("name") == name and index["url"].rstrip("/") != URL for index in indexes)
    name += "-uvtorch" if taken else ""
    target = Target("group", "uvtorch") if "project" not in data or "dynamic" in data["project"] else Target("base")
    return [
        SetIndex(name, URL),
        *(SetSources(package, (Source(name, ENTRY["marker"]),)) for package in PACKAGES),
        *(AddRequirement(target, package) for package in PACKAGES),
    ]


def expected(data: dict[str, Any]) -> dict[str, Any]:
    """The same on plain dictionaries, written without regard to how `PyProject` does it."""
    chosen = operations(data)
    name = chosen[0].name if isinstance(chosen[0], SetIndex) else ""
    uv = data.setdefault("tool", {}).setdefault("uv", {})
    index = next((index for index in uv.setdefault("index", []) if index["name"] == name), None)
    if index is None:
        uv["index"].append({"name": name, "url": URL, "explicit": True})
    else:
        index["explicit"] = True
    sources = uv.setdefault("sources", {})
    for package in PACKAGES:
        key = next((key for key in sources if normalize(key) == package), package)
        sources[key] = [ENTRY | {"index": name}]
    if "project" not in data or "dynamic" in data["project"]:
        listed = data.setdefault("dependency-groups", {}).setdefault("uvtorch", [])
    else:
        listed = data["project"].setdefault("dependencies", [])
    letters = ["".join(char if char.isalnum() or char in "-_." else " " for char in item) for item in listed]
    names = [normalize(item.split()[0]) for item in letters]
    listed += [package for package in PACKAGES if package not in names]
    return data


def lost_lines(before: bytes, after: bytes) -> list[str]:
    """Lines of the original that are gone, but for a comma or line break that a list's last element needed."""
    old, new = before.decode().splitlines(keepends=True), after.decode().splitlines(keepends=True)
    lost = []
    for tag, low, high, new_low, new_high in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag in ("replace", "delete"):
            fresh = Counter(line.replace(",", "").rstrip("\r\n") for line in new[new_low:new_high])
            for line in old[low:high]:
                bare = line.replace(",", "").rstrip("\r\n")
                if fresh[bare]:
                    fresh[bare] -= 1
                else:
                    lost.append(line.rstrip())
    return lost


def main(directory: str) -> int:
    """Print a line a file and the totals."""
    outcomes: Counter[str] = Counter()
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), "rb") as file:
            raw = file.read()
        try:
            data = tomllib.loads(raw.decode("utf-8-sig"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            try:
                apply(raw, [SetIndex("x", URL)], name)
                outcome = "WRONG: edited what is not TOML"
            except ProjectError:
                outcome = f"not TOML: {error}"
        else:
            outcome = tried(raw, data, name)
        outcomes[outcome.partition(":")[0]] += 1
        print(f"{name}: {outcome}")
    print(", ".join(f"{outcome} {count}" for outcome, count in outcomes.items()))
    return 1 if outcomes["WRONG"] else 0


def tried(raw: bytes, data: dict[str, Any], name: str) -> str:
    """What became of one file."""
    wanted = operations(data)
    start = time.perf_counter()
    try:
        result = apply(raw, wanted, name)
    except ProjectError as error:
        return f"refused: {error}"
    took = (time.perf_counter() - start) * 1000
    if tomllib.loads(result.decode("utf-8-sig")) != expected(data):
        return "WRONG: another meaning"
    if apply(result, wanted, name) != result:
        return "WRONG: a second application changes it"
    if problem := other_edits(raw, data, name):
        return problem
    lost = [line for line in lost_lines(raw, result) if not _ours(line)]
    if lost:
        return f"WRONG: lines lost: {lost}"
    return f"edited: {len(raw)} bytes in {took:.1f} ms"


def other_edits(raw: bytes, data: dict[str, Any], name: str) -> str:
    """What is wrong with the other two edits of one file, if anything."""
    backends = ("cpu", "cu126", "cu130")
    choices = [Target("extra", f"uvtorch-{backend}") for backend in backends]
    try:
        apply(
            raw,
            [
                *(SetIndex(f"uvtorch-{backend}", f"https://example.com/{backend}") for backend in backends),
                SetSources("torch", tuple(Source(choice.name or "", extra=choice.name) for choice in choices)),
                *(SetRequirement(choice, "torch", "torch>=2.6") for choice in choices if "project" in data),
                *(RemoveRequirement(Target("base"), package) for package in PACKAGES),
                SetConflicts((tuple(Item(choice.kind, choice.name or "") for choice in choices),)),
            ],
            name,
        )
    except ProjectError as error:
        if "dynamic" not in str(error):
            return f"WRONG: choices refused: {error}"
    uv = data.get("tool", {}).get("uv", {})
    removals: list[Operation] = [RemoveSources(key) for key in uv.get("sources", {})]
    removals += [RemoveIndex(index["name"]) for index in uv.get("index", []) if "name" in index]
    bare = apply(raw, [*removals, SetConflicts(())], name)
    rest = iter(raw)
    if not all(byte in rest for byte in bare):
        return "WRONG: a removal added something"
    return ""


def _ours(line: str) -> bool:
    """A line that the operations are meant to replace: a source of one of the packages."""
    return any(package in line for package in PACKAGES) or line.lstrip().startswith("{ index = ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
