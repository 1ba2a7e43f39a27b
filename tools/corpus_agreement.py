"""Hold the recognition of backend choices, and doctor's findings, against a labelled corpus of pyproject.toml files.

usage: python tools/corpus_agreement.py DIR

DIR has `files/` and `expected.json`: a list of objects with `file` and the facts below, as a person read them. Prints
each disagreement, the agreement by fact, and the share of files that agree in every fact.
"""

import json
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from uvtorch import catalog
from uvtorch.audit import Case, Finding, config
from uvtorch.errors import UvtorchError
from uvtorch.machine import Machine, Platform
from uvtorch.packages import normalize
from uvtorch.project import Choice, Project, read
from uvtorch.project.model import BASE
from uvtorch.requirement import dead

HERE = Machine(Platform("linux", "x86_64"))


def choices(rows: Iterable[Choice]) -> list[Any]:
    """Rows as the labels have them: by backend without its channel, `pypi`, or null where the URL does not say."""
    merged: dict[tuple[str, str, str], set[str]] = {}
    for row in rows:
        backend = row.backend.name if row.backend else "pypi" if row.origin == "pypi" else "null"
        merged.setdefault((row.kind, row.name or "", backend), set()).update(row.packages)
    return sorted([*key, *sorted(names)] for key, names in merged.items())


def labelled_choices(rows: Iterable[Any]) -> list[Any]:
    """The labels in the same form."""
    return sorted(
        [row["kind"], row["name"] or "", row["backend"] or "null", *sorted(map(normalize, row["packages"]))]
        for row in rows
    )


def gaps(project: Project, _: object) -> list[str]:
    """The packages and the extras or groups of sources that bind to nothing, which uv refuses."""
    required = {(item.package, item.target) for item in project.requirements}
    bound = {(one.package, one.target) for one in project.sources if one.target != BASE and not one.inherited}
    found = (pair for pair in bound - required if project.is_pytorch(pair[0]))
    return sorted(f"{package} is not in {target.kind} {target.name}" for package, target in found)


def stated_defaults(project: Project, label: list[str]) -> list[str]:
    """The default groups; uv's own default, `dev`, is not written in a file and so not in its label."""
    found = list(project.default_groups)
    return [] if found == ["dev"] and not label else found


def source_markers(project: Project) -> list[str]:
    """The markers of PyTorch packages' sources."""
    return sorted({item.marker for item in project.sources if item.marker and project.is_pytorch(item.package)})


def named(findings: Iterable[Finding]) -> list[str]:
    """The faults of indexes in the form of the labels: `unused: pytorch-cpu`."""
    kinds = {"index-not-explicit": "non-explicit", "index-unused": "unused"}
    return sorted(f"{kinds[one.code]}: {one.message.split('`')[1]}" for one in findings if one.code in kinds)


def labelled_faults(label: Iterable[str]) -> list[str]:
    """The labelled faults that doctor tells; an index that is not explicit serves whether a source names it or not."""
    open_ones = {fault.partition(": ")[2] for fault in label if fault.startswith("non-explicit: ")}
    told = [fault for fault in label if fault.startswith(("non-explicit: ", "unused: "))]
    return sorted(fault for fault in told if fault.startswith("non-") or fault.partition(": ")[2] not in open_ones)


FACTS: dict[str, tuple[Callable[[Project, Any], Any], Callable[[Any], Any]]] = {
    "choices": (lambda project, _: choices(project.choices()), labelled_choices),
    "markers": (lambda project, _: source_markers(project), sorted),
    "dead_markers": (
        lambda project, _: sorted({found for marker in source_markers(project) for found in dead(marker)}),
        sorted,
    ),
    "conflicts": (
        lambda project, _: sorted(sorted(f"{item.kind}:{item.name}" for item in items) for items in project.conflicts),
        lambda label: sorted(map(sorted, label)),
    ),
    "default_groups": (stated_defaults, list),
    "indexes": (
        lambda project, _: [[index.name, index.url, index.explicit] for index in project.indexes if index.name],
        lambda label: [[row["name"], row["url"], row["explicit"]] for row in label],
    ),
    "index_faults": (lambda project, _: named(config.check(Case(HERE, catalog.load(), project))), labelled_faults),
    "selector_gaps": (gaps, sorted),
}
"""Each fact: what uvtorch reads, and the label in the same form."""


def disagreements(path: Path, label: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By fact: what was read, and what the label says."""
    try:
        project = read(tomllib.loads(path.read_text(encoding="utf-8")))
    except tomllib.TOMLDecodeError as error:
        return {} if "TOML" in label.get("uv_error", "") else {"file": (f"not TOML: {error}", "readable")}
    except UvtorchError as error:
        return {"file": (f"refused: {error}", "readable")}
    found = {}
    for fact, (reading, expected) in FACTS.items():
        stated = label.get(fact, [])
        pair = reading(project, stated), expected(stated)
        if pair[0] != pair[1]:
            found[fact] = pair
    return found


def main(directory: str) -> int:
    """Print the comparison; 0 if at least 95 % of the files agree in full."""
    root = Path(directory)
    labels = json.loads((root / "expected.json").read_text(encoding="utf-8"))
    wrong: dict[str, int] = dict.fromkeys(("file", *FACTS), 0)
    full = 0
    for label in labels:
        found = disagreements(root / "files" / label["file"], label)
        full += not found
        for fact, (reading, expected) in found.items():
            wrong[fact] += 1
            print(f"{label['file']}: {fact}\n  read     {reading}\n  labelled {expected}")
    print()
    for fact, count in wrong.items():
        print(f"{fact:15} {len(labels) - count:3} of {len(labels)} files")
    print(f"{'every fact':15} {full:3} of {len(labels)} files, {100 * full / len(labels):.1f} %")
    return 0 if full >= 0.95 * len(labels) else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
