"""The lossless editor: every operation on every layout, exact texts, refusals, scripts, and properties."""

# ruff: noqa: E501  # a text before and after an edit reads best whole

import copy
import re
import tomllib
from collections.abc import Collection
from difflib import SequenceMatcher
from typing import Any

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from tests.edit_layouts import LAYOUTS
from tests.edits import (
    AddRequirement,
    Operation,
    RemoveIndex,
    RemoveRequirement,
    RemoveSources,
    RemoveTarget,
    SetConflicts,
    SetDefaultGroups,
    SetIndex,
    SetPrerelease,
    SetRequirement,
    SetSources,
    Source,
    apply,
    apply_script,
)
from tests.examples import given
from uvtorch.errors import ProjectError
from uvtorch.packages import normalize
from uvtorch.project.model import Item, Target
from uvtorch.project.script import restyled
from uvtorch.requirement import named_by

Data = dict[str, Any]

URL = "https://download.pytorch.org/whl/cu128"
MARKER = "sys_platform == 'linux' or sys_platform == 'win32'"
BASE, CPU, GPU = Target("base"), Target("extra", "cpu"), Target("group", "gpu")
CPU_ITEM, GPU_ITEM = Item("extra", "cpu"), Item("group", "gpu")
PIN = (Source("pytorch-cu128", MARKER),)
CHOICES = (Source("pytorch-cpu", extra="cpu"), Source("pytorch-cu126", "sys_platform == 'linux'", extra="cu126"))

OPERATIONS: dict[str, tuple[Operation, ...]] = {
    "index": (SetIndex("pytorch-cu128", URL),),
    "index with a slash": (SetIndex("pytorch-cu128", URL + "/"),),
    "remove the first index": (RemoveIndex("corp"),),
    "remove indexes": tuple(RemoveIndex(name) for name in ("a", "b", "pytorch-cu121", "pytorch-cu128", "other")),
    "pin": (SetIndex("pytorch-cu128", URL), SetSources("torch", PIN), SetSources("torchvision", PIN)),
    "choices": (SetSources("torch", CHOICES),),
    "three choices": (SetSources("torch", (*CHOICES, Source("pytorch-cu130", extra="cu130"))),),
    "group source": (SetSources("numpy", (Source("x", group="gpu"),)),),
    "no entries": (SetSources("torch", ()),),
    "unpin": (RemoveSources("torch"), RemoveSources("TorchVision"), RemoveSources("numpy")),
    "add to base": (AddRequirement(BASE, "torch"), AddRequirement(BASE, "Rich[jupyter] >= 13; python_version > '3'")),
    "add to extra": (AddRequirement(CPU, "torch>=2.6"), AddRequirement(CPU, "torchaudio")),
    "add to group": (AddRequirement(GPU, "torch>=2.6"), AddRequirement(GPU, "torchaudio")),
    "set in base": (SetRequirement(BASE, "torch", "torch>=2.6,<2.12"),),
    "set in extra": (SetRequirement(CPU, "torch", "torch>=2.6,<2.12"),),
    "set in group": (SetRequirement(GPU, "torch", "torch>=2.6,<2.12"),),
    "remove from base": tuple(RemoveRequirement(BASE, name) for name in ("numpy", "torch", "d", "a", "torch-vision")),
    "remove from extra": (RemoveRequirement(CPU, "torch"), RemoveRequirement(CPU, "torchvision")),
    "remove from group": (RemoveRequirement(GPU, "Torch"),),
    "remove extra": (RemoveTarget(CPU), RemoveTarget(Target("extra", "cu126")), RemoveTarget(Target("extra", "docs"))),
    "remove groups": tuple(RemoveTarget(Target("group", name)) for name in ("gpu", "dev", "lint")),
    "remove base": (RemoveTarget(BASE),),
    "conflicts": (SetConflicts(((CPU_ITEM, Item("extra", "cu126")), (Item("group", "x"), Item("group", "y")))),),
    "member conflicts": (SetConflicts(((Item("extra", "x", "member"), Item("extra", "y", "member")),)),),
    "no conflicts": (SetConflicts(()),),
    "default groups": (SetDefaultGroups(("dev", "uvtorch")),),
    "all default groups": (SetDefaultGroups("all"),),
    "no default groups": (SetDefaultGroups(None),),
    "prerelease": (SetPrerelease("allow"),),
    "no prerelease": (SetPrerelease(None),),
}


def parsed(raw: bytes) -> Data:
    return tomllib.loads(raw.decode("utf-8-sig"), parse_float=str)


def meaning(data: Data) -> Data:
    """The document as uv understands the parts we edit: order of sources and conflicts, empty tables do not count."""
    data = copy.deepcopy(data)
    uv = data.get("tool", {}).get("uv", {})
    for key, value in list(uv.get("sources", {}).items()):
        entries = [
            {
                name: text.replace('"', "'").replace(" ", "") if name == "marker" else text
                for name, text in entry.items()
            }
            for entry in (value if isinstance(value, list) else [value])
        ]
        del uv["sources"][key]
        uv["sources"][normalize(key)] = sorted(entries, key=repr)
    if "conflicts" in uv:
        sets = [sorted(sorted(entry.items()) for entry in members) for members in uv["conflicts"]]
        uv["conflicts"] = sorted(
            [[[(key, name.lower()) for key, name in entry] for entry in members] for members in sets]
        )
    tool, project = data.get("tool", {}), data.get("project", {})
    for table, key in (
        (uv, "index"),
        (uv, "sources"),
        (tool, "uv"),
        (data, "tool"),
        (project, "optional-dependencies"),
        (data, "dependency-groups"),
    ):
        if table.get(key) in ({}, []):
            del table[key]
    return data


def expected(data: Data, operation: Operation) -> Data:
    """What the operation means, spelled out on dictionaries: independent of the package's own compilation."""
    data = copy.deepcopy(data)
    uv: Data = data.setdefault("tool", {}).setdefault("uv", {})
    match operation:
        case SetIndex(name, url):
            index = next((index for index in uv.setdefault("index", []) if index["name"] == name), None)
            if index is None:
                index = {"name": name, "url": url}
                uv["index"].append(index)
            index["explicit"] = True
        case RemoveIndex(name):
            uv["index"] = [index for index in uv.get("index", []) if index["name"] != name]
        case SetSources(package, entries):
            sources = {
                key: value for key, value in uv.get("sources", {}).items() if normalize(key) != normalize(package)
            }
            if entries:
                sources[package] = [{k: v for k, v in entry._asdict().items() if v} for entry in entries]
            uv["sources"] = sources
        case RemoveSources(package):
            return expected(data, SetSources(package, ()))
        case SetConflicts(sets):
            uv["conflicts"] = [
                [({"package": item.package} if item.package else {}) | {item.kind: item.name} for item in members]
                for members in sets
            ]
            if not sets:
                del uv["conflicts"]
        case SetDefaultGroups(groups):
            uv["default-groups"] = list(groups) if isinstance(groups, tuple) else groups
            if groups is None:
                del uv["default-groups"]
        case SetPrerelease(value):
            uv["prerelease"] = value
            if value is None:
                del uv["prerelease"]
        case AddRequirement(target, requirement):
            listed = listing(data, target, create=True)
            known = [item for item in listed if name_of(item) == name_of(requirement)]
            if not any(
                requirement.isalnum() or item.replace(" ", "") == requirement.replace(" ", "") for item in known
            ):
                listed.append(requirement)
        case SetRequirement(target, package, requirement):
            listed = listing(data, target, create=True)
            mine = [item for item in listed if name_of(item) == normalize(package)]
            if mine:
                listed[listed.index(mine[0])] = requirement
            else:
                listed.append(requirement)
            listed[:] = [item for item in listed if item not in mine or item is requirement]
        case RemoveRequirement(target, package):
            listed = listing(data, target, create=False)
            listed[:] = [item for item in listed if name_of(item) != normalize(package)]
        case RemoveTarget(target):
            table = holder(data, target)
            for key in [key for key in table if normalize(key) == (target.name or "dependencies")]:
                del table[key]
    return data


def holder(data: Data, target: Target) -> Data:
    """The table that has the target as a key."""
    table: Data = data.get("dependency-groups" if target.kind == "group" else "project", {})
    return table.get("optional-dependencies", {}) if target.kind == "extra" else table


def listing(data: Data, target: Target, *, create: bool) -> list[Any]:
    table = holder(data, target)
    name = target.name or "dependencies"
    key = next((key for key in table if normalize(key) == name), None)
    if key is None and create:
        table = data.setdefault("dependency-groups", {}) if target.kind == "group" else data["project"]
        if target.kind == "extra":
            table = table.setdefault("optional-dependencies", {})
        return table.setdefault(name, [])  # type: ignore[no-any-return]
    return table[key] if key is not None else []


def name_of(requirement: object) -> str | None:
    if not isinstance(requirement, str):
        return None
    letters = "".join(char if char.isalnum() or char in "-_." else " " for char in requirement)
    return normalize(letters.split()[0])


def adds(operation: Operation) -> bool:
    return isinstance(operation, AddRequirement | SetRequirement)


def refused(data: Data, operation: Operation) -> bool:
    """Whether the operation is one that the file cannot take."""
    return "project" not in data and adds(operation) and getattr(operation, "target").kind != "group"  # noqa: B009


def is_subsequence(part: bytes, whole: bytes) -> bool:
    rest = iter(whole)
    return all(byte in rest for byte in part)


def check(raw: bytes, operations: tuple[Operation, ...]) -> bytes:
    """Apply, and hold the result against everything that is promised of it."""
    result = apply(raw, operations)
    want = parsed(raw)
    for operation in operations:
        want = expected(want, operation)
    assert meaning(parsed(result)) == meaning(want)
    assert result == raw or apply(result, operations) == result
    assert result.startswith(b"\xef\xbb\xbf") == raw.startswith(b"\xef\xbb\xbf")
    if raw.strip(b"\xef\xbb\xbf"):
        assert result.endswith(b"\n") == raw.endswith(b"\n") or not result.strip(b"\xef\xbb\xbf")
    if b"\r\n" not in raw:
        assert b"\r" not in result
    elif raw.count(b"\r\n") == raw.count(b"\n"):
        assert result.count(b"\r\n") == result.count(b"\n")
    return result


INLINE = ("tool inline", "tool.uv inline", "tool.uv inline with everything", "inline with dotted keys")
"""uv's tables in one inline table: that is written anew, dotted keys in it as tables, an emptied table as an empty one."""

SEVERAL_A_LINE = ("several a line", "leading commas", "closing bracket on the last item")
"""Arrays that get one element a line when they are edited, as `uv add` does it."""

REWRITTEN = INLINE[2:] + SEVERAL_A_LINE


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_operation_on_every_layout_means_what_it_says_and_is_idempotent(layout: str) -> None:
    """And what takes out adds not one byte."""
    raw = LAYOUTS[layout].encode()
    data = parsed(raw)
    for name, operations in OPERATIONS.items():
        if refused(data, operations[0]):
            with pytest.raises(ProjectError, match=r"there is no \[project\] table"):
                apply(raw, operations)
        else:
            result = check(raw, operations)
            if result != raw:
                assert meaning(parsed(result)) != meaning(data)
            if name.startswith(("remove", "unpin", "no ")) and layout not in REWRITTEN:
                assert is_subsequence(result, raw)
            if all(isinstance(one, RemoveRequirement | RemoveIndex) for one in operations):
                assert comments(raw) == comments(result)


def comments(raw: bytes) -> list[bytes]:
    """The lines that are a comment and nothing else."""
    return [line.strip() for line in raw.splitlines() if line.lstrip().startswith(b"#") and b'"""' not in line]


ADDING = (
    SetIndex("fresh", "https://example.com/fresh"),
    SetSources("fresh", PIN),
    SetSources("fresher", CHOICES),
    AddRequirement(BASE, "fresh>=1"),
    AddRequirement(Target("extra", "fresh"), "fresh"),
    AddRequirement(Target("group", "fresh"), "fresh"),
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_adding_loses_not_one_byte(layout: str) -> None:
    raw = LAYOUTS[layout].encode()
    data = parsed(raw)
    result = check(raw, tuple(operation for operation in ADDING if not refused(data, operation)))
    assert layout in REWRITTEN or is_subsequence(raw, result)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_taking_back_what_was_added_restores_the_meaning_and_every_line(layout: str) -> None:
    raw = LAYOUTS[layout].encode()
    there = ADDING[0], ADDING[1], ADDING[5]
    back = RemoveIndex("fresh"), RemoveSources("fresh"), RemoveTarget(Target("group", "fresh"))
    result = apply(apply(raw, there), back)
    assert meaning(parsed(result)) == meaning(parsed(raw))
    assert layout in (*INLINE, "index inline on one line") or lines(result.replace(b", index = []", b"")) == lines(raw)


def lines(raw: bytes) -> list[bytes]:
    """The lines that are not blank, but for a header of sources, which goes when nothing is left below it."""
    return [line for line in raw.splitlines() if line.strip() and line != b"[tool.uv.sources]"]


EXACT: dict[str, tuple[tuple[Operation, ...], str, str]] = {
    "the sample of the contract, on what uv init writes": (
        (SetIndex("pytorch-cu128", URL), SetSources("torch", PIN)),
        '[project]\nname = "demo"\ndependencies = []\n',
        f"""\
[project]
name = "demo"
dependencies = []

[tool.uv.sources]
torch = [{{ index = "pytorch-cu128", marker = "{MARKER}" }}]

[[tool.uv.index]]
name = "pytorch-cu128"
url = "{URL}"
explicit = true
""",
    ),
    "several sources, one a line": (
        (SetSources("torch", CHOICES),),
        '[tool.uv.sources]\nnumpy = { path = "x" } # local\n\n[tool.x]\n',
        """\
[tool.uv.sources]
numpy = { path = "x" } # local
torch = [
    { index = "pytorch-cpu", extra = "cpu" },
    { index = "pytorch-cu126", extra = "cu126", marker = "sys_platform == 'linux'" },
]

[tool.x]
""",
    ),
    "an entry that stays keeps its comments and spelling": (
        (SetSources("torch", (CHOICES[0], Source("b", extra="cu130"))),),
        "[tool.uv.sources]\ntorch = [\n  # no GPU\n  {extra='CPU', index=\"pytorch-cpu\"}, # one\n"
        '  { index = "a", extra = "cu126" } # two\n]\n',
        "[tool.uv.sources]\ntorch = [\n  # no GPU\n  {extra='CPU', index=\"pytorch-cpu\"}, # one\n"
        '  { index = "b", extra = "cu130" } # two\n]\n',
    ),
    "a sub-table becomes a list beside its siblings": (
        (SetSources("torch", CHOICES[:1]),),
        '[a]\n\n[tool.uv.sources.torch]\nindex = "x"\n\n[tool.uv.sources.numpy]\npath = "x"\n',
        '[a]\n\n[tool.uv.sources]\ntorch = [{ index = "pytorch-cpu", extra = "cpu" }]\n\n[tool.uv.sources.numpy]\npath = "x"\n',
    ),
    "dotted keys stay dotted": (
        (SetSources("torch", CHOICES[:1]), SetPrerelease("allow")),
        '[tool]\nuv.sources.numpy.path = "x" # local\nuv.package = true\nother.x = 1\n',
        '[tool]\nuv.sources.numpy.path = "x" # local\nuv.sources.torch = [{ index = "pytorch-cpu", extra = "cpu" }]\n'
        'uv.package = true\nuv.prerelease = "allow"\nother.x = 1\n',
    ),
    "sources below a table of dotted keys": (
        (SetSources("torch", CHOICES[:1]),),
        "[tool]\nuv.package = true\nx.y = 1\n",
        '[tool]\nuv.package = true\nx.y = 1\n\n[tool.uv.sources]\ntorch = [{ index = "pytorch-cpu", extra = "cpu" }]\n',
    ),
    "an inline index stays inline": (
        (SetIndex("pytorch-cu128", URL),),
        '[tool.uv]\nindex = [\n  {name="corp",url="https://example.com"} # ours\n]\n',
        f'[tool.uv]\nindex = [\n  {{name="corp",url="https://example.com"}}, # ours\n'
        f'  {{ name = "pytorch-cu128", url = "{URL}", explicit = true }}\n]\n',
    ),
    "an index goes after the last one, wherever that is": (
        (SetIndex("b", "https://example.com/b"),),
        '[[tool.uv.index]]\nname = "a"\nurl = "https://example.com/a"\n# about a\n\n# ruff\n[tool.ruff]\nx = 1\n[tool.uv]\n',
        '[[tool.uv.index]]\nname = "a"\nurl = "https://example.com/a"\n# about a\n\n[[tool.uv.index]]\nname = "b"\n'
        'url = "https://example.com/b"\nexplicit = true\n\n# ruff\n[tool.ruff]\nx = 1\n[tool.uv]\n',
    ),
    "explicit joins the index it belongs to": (
        (SetIndex("a", "https://example.com/a/"),),
        '[[tool.uv.index]]\nname = "a"\nurl = "https://example.com/a" # mirror\n\n[[tool.uv.index]]\nname = "b"\nurl = "u"\n',
        '[[tool.uv.index]]\nname = "a"\nurl = "https://example.com/a" # mirror\nexplicit = true\n\n'
        '[[tool.uv.index]]\nname = "b"\nurl = "u"\n',
    ),
    "sources come before the first index": (
        (SetSources("torch", CHOICES[:1]),),
        '[tool.uv]\nx = 1\n\n# PyTorch\n[[tool.uv.index]]\nname = "a"\nurl = "u"\n',
        '[tool.uv]\nx = 1\n\n[tool.uv.sources]\ntorch = [{ index = "pytorch-cpu", extra = "cpu" }]\n\n'
        '# PyTorch\n[[tool.uv.index]]\nname = "a"\nurl = "u"\n',
    ),
    "a comment glued to the next header stays with it": (
        (SetIndex("a", "u"),),
        "[tool.uv]\nx = 1\n# settings of ruff\n[tool.ruff]\n",
        '[tool.uv]\nx = 1\n\n[[tool.uv.index]]\nname = "a"\nurl = "u"\nexplicit = true\n\n# settings of ruff\n[tool.ruff]\n',
    ),
    "a removed index takes its blank line along": (
        (RemoveIndex("a"),),
        '[x]\n\n[[tool.uv.index]]\nname = "a"\nurl = "u"\n\n[[tool.uv.index]]\nname = "b"\nurl = "u"\n',
        '[x]\n\n[[tool.uv.index]]\nname = "b"\nurl = "u"\n',
    ),
    "a comment behind a list stays": (
        (AddRequirement(BASE, "torch"), RemoveRequirement(BASE, "six")),
        '[project]\ndependencies = ["six"] # kept\n',
        '[project]\ndependencies = ["torch"] # kept\n',
    ),
    "comments above what is removed stay": (
        (RemoveSources("torch"), RemoveIndex("a")),
        '[tool.uv.sources]\n# the CUDA build\ntorch = { index = "a" } # gone\n\n# where from\n[[tool.uv.index]]\nname = "a"\nurl="u"\n',
        "# the CUDA build\n\n# where from\n",
    ),
    "the last source takes its header along": (
        (RemoveSources("torch"),),
        '[a]\nx = 1\n\n[tool.uv.sources]\ntorch = { index = "a" }\n\n[b]\n',
        "[a]\nx = 1\n\n[b]\n",
    ),
    "a trailing comma is kept absent, a comment kept behind its item": (
        (AddRequirement(BASE, "torch"),),
        '[project]\ndependencies = [\n  "a",\n  "b" # about b\n  # more to come\n]\n',
        '[project]\ndependencies = [\n  "a",\n  "b", # about b\n  "torch"\n  # more to come\n]\n',
    ),
    "one line stays one line": (
        (AddRequirement(BASE, "torch"),),
        '[project]\ndependencies = [ "a" , "b" ]\n',
        '[project]\ndependencies = [ "a", "b", "torch" ]\n',
    ),
    "an empty list opens up as uv opens it": (
        (AddRequirement(BASE, "torch"),),
        "[project]\ndependencies = []\n",
        '[project]\ndependencies = [\n    "torch",\n]\n',
    ),
    "quotes that spare escapes": (
        (AddRequirement(BASE, 'torch; sys_platform == "linux"'),),
        '[project]\ndependencies = ["a"]\n',
        '[project]\ndependencies = ["a", \'torch; sys_platform == "linux"\']\n',
    ),
    "an array of several lines gets one element a line, aligned with the last": (
        (AddRequirement(BASE, "torch"),),
        '[project]\ndependencies = ["a",\n                "b"]\n',
        '[project]\ndependencies = [\n                "a",\n                "b",\n                "torch"\n]\n',
    ),
    "tabs": (
        (AddRequirement(CPU, "torch"),),
        '[project]\n\tdependencies = [\n\t\t"a",\n\t]\n',
        '[project]\n\tdependencies = [\n\t\t"a",\n\t]\n\n[project.optional-dependencies]\ncpu = [\n    "torch",\n]\n',
    ),
    "extras follow the project, before its scripts' neighbours": (
        (AddRequirement(CPU, "torch"),),
        '[project]\nname = "a"\n\n[project.scripts]\nx = "y"\n\n[build-system]\n',
        '[project]\nname = "a"\n\n[project.scripts]\nx = "y"\n\n[project.optional-dependencies]\ncpu = [\n    "torch",\n]\n\n[build-system]\n',
    ),
    "removing one of several on a line": (
        (RemoveRequirement(BASE, "b"), RemoveRequirement(BASE, "d")),
        '[project]\ndependencies = [\n  "a", "b", "c", # abc\n  "d", "e"\n]\n',
        '[project]\ndependencies = [\n  "a",\n  "c", # abc\n  "e"\n]\n',
    ),
    "removing the last leaves the comma style": (
        (RemoveRequirement(BASE, "c"),),
        '[project]\ndependencies = [\n  "a", # a\n  "b", # b\n  "c" # c\n]\n',
        '[project]\ndependencies = [\n  "a", # a\n  "b" # b\n]\n',
    ),
    "removing before a closing bracket on the same line": (
        (RemoveRequirement(BASE, "b"),),
        '[project]\ndependencies = ["a", # about a\n    "b"]\n',
        '[project]\ndependencies = [\n    "a" # about a\n]\n',
    ),
    "removing the only one": (
        (RemoveRequirement(BASE, "a"),),
        '[project]\ndependencies = [ "a", ]\n',
        "[project]\ndependencies = []\n",
    ),
    "every entry of a package becomes one": (
        (SetRequirement(BASE, "torch", "torch<2.12"),),
        '[project]\ndependencies = [\n  "torch; sys_platform == \'linux\'", # here\n  "a",\n  "Torch>2; sys_platform == \'darwin\'", # there\n]\n',
        '[project]\ndependencies = [\n  "torch<2.12", # here\n  "a",\n]\n',
    ),
    "conflict sets that stay keep their text": (
        (SetConflicts(((CPU_ITEM, Item("extra", "gpu")), (CPU_ITEM, Item("extra", "x"), Item("extra", "y")))),),
        '[tool.uv]\nconflicts = [\n  [ {extra="GPU"}, {extra="cpu"} ], # backends\n]\n',
        '[tool.uv]\nconflicts = [\n  [ {extra="GPU"}, {extra="cpu"} ], # backends\n'
        '  [\n      { extra = "cpu" },\n      { extra = "x" },\n      { extra = "y" },\n  ],\n]\n',
    ),
    "new conflicts, as uv's documentation writes them": (
        (SetConflicts(((CPU_ITEM, Item("extra", "gpu")),)),),
        "",
        '[tool.uv]\nconflicts = [\n    [\n        { extra = "cpu" },\n        { extra = "gpu" },\n    ],\n]\n',
    ),
    "new lines end as the file's lines do": (
        (SetSources("torch", CHOICES[:1]),),
        '[project]\r\nname = "a"\r\n[tool.x]\n',
        '[project]\r\nname = "a"\r\n[tool.x]\n\r\n[tool.uv.sources]\r\ntorch = [{ index = "pytorch-cpu", extra = "cpu" }]\r\n',
    ),
    "a missing last line break stays missing": (
        (SetSources("torch", CHOICES[:1]),),
        "\ufeff# only this",
        '\ufeff# only this\n\n[tool.uv.sources]\ntorch = [{ index = "pytorch-cpu", extra = "cpu" }]',
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_the_exact_text(name: str) -> None:
    operations, before, after = EXACT[name]
    assert apply(before.encode(), operations).decode() == after
    assert apply(after.encode(), operations).decode() == after


# fmt: off
SAME: dict[str, tuple[Operation, str]] = {
    "a plain table": (SetSources("torch", PIN[:1]), f'[tool.uv.sources]\ntorch = {{marker = "{MARKER}",index="pytorch-cu128"}}\n'),
    "another spelling of the name": (SetSources("torch-geometric", (Source("a"),)), '[tool.uv.sources]\nTorch_Geometric = {index="a"}\n'),
    "a sub-table": (SetSources("torch", (Source("a"),)), '[tool.uv.sources.torch]\nindex = "a"\n'),
    "dotted keys": (SetSources("torch", (Source("a"),)), 'tool.uv.sources.torch.index = "a"\n'),
    "another order of entries": (SetSources("torch", CHOICES[::-1]),
        '[tool.uv.sources]\ntorch = [{index="pytorch-cpu",extra="cpu"},{index="pytorch-cu126",extra="CU126",marker="sys_platform==\\"linux\\""}]\n'),
    "an array of tables": (SetSources("torch", (Source("a", group="x"),)), '[[tool.uv.sources.torch]]\ngroup = "X"\nindex = "a"\n'),
    "a slash behind the URL": (SetIndex("a", "https://example.com"), '[tool.uv]\nindex = [{ name = "a", url = "https://example.com/", explicit = true }]\n'),
    "an explicit index": (SetIndex("a", "u"), '[[tool.uv.index]]\nname = "a"\nurl = "u"\nexplicit = true\n'),
    "the same requirement": (AddRequirement(BASE, "torch >=2; python_version>'3'"), "[project]\ndependencies = ['Torch>= 2 ;python_version > \"3\"']\n"),
    "a bare name is there with bounds": (AddRequirement(BASE, "torch"), '[project]\ndependencies = ["torch[opt]>=2"]\n'),
    "extras in another spelling": (AddRequirement(Target("extra", "cu-126"), "torch"), '[project.optional-dependencies]\nCU_126 = ["torch"]\n[project]\n'),
    "nothing to remove": (RemoveRequirement(GPU, "torch"), "[tool.uv]\n"),
    "nothing to remove without a project": (RemoveRequirement(BASE, "torch"), "[tool.uv]\n"),
    "conflicts in another order": (SetConflicts(((GPU_ITEM, CPU_ITEM),)), '[tool.uv]\nconflicts = [[{ extra = "CPU" }, { group = "gpu" }]]\n'),
    "dynamic, and already there": (AddRequirement(CPU, "torch"), '[project]\ndynamic = ["dependencies"]\noptional-dependencies.cpu = ["torch"]\n'),
}
# fmt: on


@pytest.mark.parametrize("name", SAME)
def test_what_already_holds_changes_no_byte(name: str) -> None:
    operation, text = SAME[name]
    assert apply(text.encode(), [operation]) == text.encode()


# fmt: off
REFUSED: dict[str, tuple[bytes, Operation, str]] = {
    "not UTF-8": (b'[project]\nname = "\xe9"\n', SetPrerelease("allow"), r"p\.toml is not UTF-8: byte 0xe9 in line 2"),
    "UTF-16": ('[project]\n'.encode("utf-16"), SetPrerelease("allow"), r"is not UTF-8: byte 0xff in line 1"),
    "not TOML": (b"[project]\nname =\n", SetPrerelease("allow"), r"p\.toml is not TOML: .*\(at line 2, column 7\)"),
    "a table declared twice": (b"[tool.uv.sources]\n[tool.uv.sources]\n", SetPrerelease("allow"), "is not TOML: .*twice"),
    "old Mac line breaks": (b"[project]\rname = 1\r", SetPrerelease("allow"), "is not TOML"),
    "nested without end": (b"x = " + b"[" * 100_000, SetPrerelease("allow"), "is nested too deeply|is not TOML"),
    "a date that tomlkit would write otherwise": (b"[x]\ny = [1979-05-27 ]\n", SetPrerelease("allow"), r"`y = \[1979-05-27 \]` would not be kept as it is"),
    "an index with another URL": (b'[[tool.uv.index]]\nname = "a"\nurl = "u"\n', SetIndex("a", "v"), "cannot edit p.toml without harm: the index a has another URL: u, not v"),
    "an index without a URL": (b'[tool.uv]\nindex = [{ name = "a" }]\n', SetIndex("a", "v"), "another URL: None"),
    "no project": (b"", AddRequirement(BASE, "torch"), r"there is no \[project\] table"),
    "dynamic dependencies": (b'[project]\ndynamic = ["dependencies"]\n', AddRequirement(BASE, "torch"), "project.dependencies is dynamic"),
    "dynamic extras": (b'[project]\ndynamic = ["optional-dependencies"]\n', SetRequirement(CPU, "torch", "torch"), "project.optional-dependencies is dynamic"),
    "tool is a number": (b"tool = 3\n", SetPrerelease("allow"), "p.toml: `tool` must be a table, not a number"),
    "tool.uv is a list": (b"[[tool.uv]]\n", SetIndex("a", "u"), "`tool.uv` must be a table"),
    "sources are a list": (b"[tool.uv]\nsources = []\n", SetSources("torch", PIN), "`tool.uv.sources` must be a table"),
    "indexes are a table": (b"[tool.uv.index]\n", SetIndex("a", "u"), "`tool.uv.index` must be an array of tables"),
    "indexes are strings": (b'[tool.uv]\nindex = ["a"]\n', SetIndex("a", "u"), "`tool.uv.index` must be an array of tables"),
    "dependencies are a string": (b'[project]\ndependencies = "torch"\n', AddRequirement(BASE, "a"), "`project.dependencies` must be an array of strings"),
    "project is a string": (b'project = "x"\n', AddRequirement(BASE, "a"), "`project` must be a table"),
    "a group is a table": (b"[dependency-groups.gpu]\n", AddRequirement(GPU, "a"), "`dependency-groups.gpu` must be an array"),
    "conflicts are a table": (b"[tool.uv.conflicts]\n", SetConflicts(((CPU_ITEM, GPU_ITEM),)), "`tool.uv.conflicts` must be an array of arrays"),
}
# fmt: on


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_edited_is_refused_with_its_reason(name: str) -> None:
    raw, operation, reason = REFUSED[name]
    with pytest.raises(ProjectError, match=reason):
        apply(raw, [operation], "p.toml")


def test_taking_out_and_putting_back_settles_at_once() -> None:
    raw = apply(b"", (SetSources("torch", PIN), SetSources("numpy", PIN)))
    operations = RemoveSources("torch"), SetSources("torch", CHOICES)
    result = apply(raw, operations)
    assert apply(result, operations) == result


SCRIPT = b"""\
#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.12"
# dependencies = [
#     "numpy",
#
# ]
# ///
import numpy  # /// script
"""


def test_a_script_gets_its_tables_inside_the_block() -> None:
    operations = (SetIndex("pytorch-cu128", URL), SetSources("torch", PIN), AddRequirement(BASE, "torch"))
    result = apply_script(SCRIPT, operations)
    assert result.decode() == SCRIPT.decode().replace('"numpy",\n', '"numpy",\n#     "torch",\n').replace(
        "# ]\n",
        f"""# ]
#
# [tool.uv.sources]
# torch = [{{ index = "pytorch-cu128", marker = "{MARKER}" }}]
#
# [[tool.uv.index]]
# name = "pytorch-cu128"
# url = "{URL}"
# explicit = true
""",
    )
    assert apply_script(result, operations) == result


def test_a_script_block_without_dependencies_gets_them_before_its_tables() -> None:
    raw = b"# /// script\n# [tool.uv]\n# package = false\n# ///\n"
    result = apply_script(raw, [AddRequirement(BASE, "torch")])
    assert result == raw.replace(b"# [tool", b'# dependencies = [\n#     "torch",\n# ]\n#\n# [tool')


def test_a_script_keeps_the_spelling_of_its_blank_lines_and_its_line_breaks() -> None:
    raw = SCRIPT.replace(b"#\n", b"# \n").replace(b"\n", b"\r\n")
    result = apply_script(raw, [AddRequirement(BASE, "torch")])
    assert result == raw.replace(b'"numpy",\r\n', b'"numpy",\r\n#     "torch",\r\n')


def test_a_script_block_may_hold_characters_that_only_python_takes_for_line_breaks() -> None:
    raw = "# /// script\n# # one\u2028two\x85\n# dependencies = []\n# ///\nx = '\x0c\u2029'\r\n".encode()
    result = apply_script(raw, [SetPrerelease("allow"), RemoveRequirement(BASE, "torch")])
    assert result == raw.replace(b"[]\n", b'[]\n#\n# [tool.uv]\n# prerelease = "allow"\n')


def test_a_script_block_ends_at_its_last_marker() -> None:
    raw = b"# /// script\n# dependencies = []\n# x = '''\n# ///\n# '''\n# ///\n# after\n"
    result = apply_script(raw, [AddRequirement(BASE, "torch")])
    assert result == raw.replace(b"[]", b'[\n#     "torch",\n# ]')


def test_a_script_that_needs_no_change_is_returned_as_it_is() -> None:
    assert apply_script(SCRIPT, [AddRequirement(BASE, "numpy"), RemoveSources("torch")]) is SCRIPT


@pytest.mark.parametrize(
    ("raw", "operation", "reason"),
    [
        (b"print()\n", SetPrerelease("allow"), "s.py has no `# /// script` block"),
        (b"# /// script\n# dependencies = []\n", SetPrerelease("allow"), "has no `# /// script` block"),
        (b"# /// script\n# ///\n\n# /// script\n# ///\n", SetPrerelease("allow"), "has 2 `# /// script` blocks"),
        (
            b"\n# /// script\n# x =\n# ///\n",
            SetPrerelease("allow"),
            "s.py: its inline metadata is not TOML.*line 3, column 4",
        ),
        (b"# /// script\n# ///\n", AddRequirement(CPU, "torch"), "a script has no extras: cpu"),
        (b"# /// script\n# ///\n", AddRequirement(GPU, "torch"), "a script has no groups: gpu"),
        (b"# \xff\n", SetPrerelease("allow"), "s.py is not UTF-8"),
    ],
)
def test_a_script_that_cannot_be_edited_is_refused(raw: bytes, operation: Operation, reason: str) -> None:
    with pytest.raises(ProjectError, match=reason):
        apply_script(raw, [operation], "s.py")


SCALARS = st.one_of(
    st.sampled_from(["1", "-1_000", "true", "1.5e3", "inf", "1979-05-27", "1979-05-27 07:32:00Z", "07:32:00", "0xff"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="'"), max_size=8).map(lambda s: f"'{s}'"),
    st.text(st.sampled_from("ab#[]{},=\\\"'\n"), max_size=10).map(
        lambda s: '"""' + s.replace("\\", "\\\\").replace('"', '\\"') + '"""'
    ),
    st.text(st.sampled_from('ab#[]{}"\n,'), max_size=10).map(lambda s: f"'''{s}'''"),
    st.sampled_from(['""', "''", '""""""', '"""a""""', '"""""a"""""', "'''''a'''''", '"\\"#\\u0041"']),
)
SPACES = st.sampled_from(["", " ", "  ", "\t"])
BREAKS = st.sampled_from(["", " ", "\n", " # no ] } , here\n", "\n\n  "])
KEYS = st.sampled_from(["a", "b-c", "D_e", '"f g"', "'h.i'", '"j\\u006B"', "1", '"]"'])


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    items = draw(st.lists(values, max_size=4))
    text = "".join(f"{draw(BREAKS)}{item}{draw(BREAKS)}," for item in items)
    return f"[{text if draw(st.booleans()) else text.removesuffix(',')}{draw(BREAKS)}]"


@st.composite
def inline_tables(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    keys = draw(st.lists(KEYS, max_size=3, unique=True))
    items = [f"{draw(SPACES)}{key}{draw(SPACES)}={draw(SPACES)}{draw(values)}{draw(SPACES)}" for key in keys]
    return "{" + ",".join(items) + "}"


VALUES = st.recursive(SCALARS, lambda inner: st.one_of(arrays(inner), inline_tables(inner)), max_leaves=8)


@st.composite
def sections(draw: st.DrawFn, header: str) -> str:
    """A section with random pairs, comments and blank lines."""
    lines = [f"{header}{draw(SPACES)}{draw(st.sampled_from(['', '# why', '# [x]']))}\n"]
    for key in draw(st.lists(KEYS, max_size=3, unique=True)):
        lines += draw(st.lists(st.sampled_from(["\n", "# note\n", "  # [tool.uv]\n"]), max_size=2))
        lines.append(f"{draw(SPACES)}{key}{draw(SPACES)}={draw(SPACES)}{draw(VALUES)}{draw(SPACES)}\n")
    lines += draw(st.lists(st.sampled_from(["\n", "# tail\n"]), max_size=3))
    return "".join(lines)


@st.composite
def documents(draw: st.DrawFn, without: Collection[str] = ()) -> bytes:
    """A layout cut into its top-level blocks, shuffled among random sections, its line breaks and ends varied."""
    text = (
        draw(st.sampled_from(sorted(LAYOUTS[layout] for layout in LAYOUTS.keys() - without)))
        .removeprefix("\ufeff")
        .replace("\r\n", "\n")
    )
    blocks: list[str] = [""]
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            blocks.append("")
        blocks[-1] += line
    root, *tables = [block if block.endswith("\n") else block + "\n" for block in blocks]
    tables += draw(st.lists(st.sampled_from("xyz").flatmap(lambda name: sections(f"[[extra.{name}]]")), max_size=3))
    text = root + "".join(draw(st.permutations(tables)))
    breaks = draw(st.sampled_from(["\n", "\r\n", "mixed"]))
    if breaks == "mixed":
        text = "".join(line + draw(st.sampled_from(["\n", "\r\n"])) for line in text.split("\n")[:-1])
    else:
        text = text.replace("\n", breaks)
    if draw(st.booleans()):
        text = text.rstrip("\r\n")
    return (draw(st.sampled_from(["", "\ufeff"])) + text).encode()


def valid(raw: bytes) -> bool:
    if re.search(
        rb"(-27|:00Z?)[ \t]+(?!07)", raw
    ):  # tomlkit drops the space behind a date in brackets: refused, see above
        return False
    try:
        parsed(raw)
    except tomllib.TOMLDecodeError:
        return False
    return True


def subjects(operation: Operation) -> list[tuple[object, ...]]:
    """What an operation speaks of: a package's sources, a package in a target, an index, a key."""
    match operation:
        case SetSources() | RemoveSources():
            return [("sources", normalize(operation.package))]
        case SetRequirement() | RemoveRequirement():
            return [(operation.target, normalize(operation.package))]
        case AddRequirement():
            return [(operation.target, named_by(operation.requirement))]
        case RemoveTarget():
            return [(operation.target, name) for name in ("torch", "torchvision", "torchaudio", "rich", "numpy")]
        case SetIndex() | RemoveIndex():
            return [("index", operation.name)]
    return [(type(operation),)]


def contradict(operations: tuple[Operation, ...]) -> bool:
    """Whether two different operations speak of the same thing."""
    said: dict[tuple[object, ...], tuple[type, Operation]] = {}  # with its type: tuples of the same fields are equal
    return any(
        said.setdefault(about, (type(one), one)) != (type(one), one) for one in operations for about in subjects(one)
    )


@given(documents(), st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=3, unique=True))
def test_any_operations_on_any_document_do_what_they_mean_or_refuse(raw: bytes, names: list[str]) -> None:
    assume(valid(raw))
    operations = tuple(operation for name in names for operation in OPERATIONS[name])
    data = parsed(raw)
    # What contradicts itself ("torch is listed once", "torch is not listed") need not settle; it is refused, see above.
    assume(not contradict(operations))
    if any(refused(data, operation) for operation in operations):
        with pytest.raises(ProjectError, match=r"there is no \[project\] table"):
            apply(raw, operations)
    else:
        check(raw, operations)


@given(documents(without=REWRITTEN))
def test_adding_to_any_document_touches_at_most_one_line_an_operation(raw: bytes) -> None:
    assume(valid(raw))
    operations = tuple(operation for operation in ADDING if not refused(parsed(raw), operation))
    result = check(raw, operations)
    if 0 < raw.count(b"\r\n") < raw.count(b"\n"):
        # Where breaks are mixed, a list that opens up has the line's own break behind its first line.
        assert is_subsequence(raw.replace(b"\r", b""), result.replace(b"\r", b""))
    else:
        assert is_subsequence(raw, result)
    before, after = raw.splitlines(), result.splitlines()
    kept = sum(block.size for block in SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks())
    assert len(before) - kept <= len(operations)


@pytest.mark.parametrize(
    ("model", "raw", "result"),
    [
        (b"a\r\nb\r\n", b"a\nnew\nb\n", b"a\r\nnew\r\nb\r\n"),
        (b"a\r\nb\nc\r\n", b"a\nb\nc\nnew\n", b"a\r\nb\nc\r\nnew\r\n"),
        (b"\xef\xbb\xbfa\nb\n", b"a\nnew\nb\n", b"\xef\xbb\xbfa\nnew\nb\n"),
        (b"a\r\nb", b"a\nc\nb", b"a\r\nc\r\nb"),
        (b"a\r\nb", b"a\nb\nc\n", b"a\r\nb\r\nc\r\n"),
        (b"a\r\n\xff", b"a\n\xff", b"a\n\xff"),
    ],
    ids=["CRLF", "mixed", "BOM", "no last break", "after the last break", "not UTF-8"],
)
def test_line_breaks_and_bom_are_put_back(model: bytes, raw: bytes, result: bytes) -> None:
    assert restyled(raw, model) == result
    assert restyled(result, model) == result


@given(documents())
def test_what_uv_makes_of_line_breaks_is_undone_to_the_byte(raw: bytes) -> None:
    assert restyled(raw.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n"), raw) == raw
