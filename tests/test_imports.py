"""Which part of uvtorch may import which: arrows point down, and there is no circle."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import uvtorch

ROOT = Path(uvtorch.__file__).parent
LAYERS = [
    "__main__",
    "cli",
    "verbs",
    "steps",
    "cache",
    "session",
    "audit command",
    "edits index_query transaction",
    "environment fleet",
    "choose project",
    "hardware catalog journal requirement",
    "machine output packages",
    "files",
    "argv uv",
    "backend",
    "errors",
]
"""From above to below; the parts of one line do not know each other."""


def part(module: str) -> str:
    return module.removeprefix("uvtorch.").partition(".")[0]


def imports() -> dict[str, set[str]]:
    """Module -> the modules of uvtorch that it imports, wherever in its text."""
    names = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    found: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("uvtorch"):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= {one if one in names else str(node.module) for one in inner}
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names if alias.name in names}
    return {name: {one for one in rows if one != "uvtorch"} for name, rows in found.items() if name != "uvtorch"}


def test_arrows_point_down() -> None:
    height = {name: len(LAYERS) - row for row, names in enumerate(LAYERS) for name in names.split()}
    wrong = {
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if part(module) != part(other) and height[part(module)] <= height[part(other)]
    }
    assert not wrong


def test_no_verb_imports_another() -> None:
    rows = imports()
    verbs = {name for name in rows if name.startswith("uvtorch.verbs.")}
    assert not {(name, other) for name in verbs for other in rows[name] & verbs}


def test_there_is_no_circle() -> None:
    tuple(TopologicalSorter(imports()).static_order())


def test_sync_loads_nothing_of_what_only_scripts_and_with_need() -> None:
    """In a process of its own: 10 ms of every `sync --auto`."""
    asked = "import sys; import uvtorch.verbs.sync; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert {"uvtorch.environment", "uvtorch.steps.route", "json", "hashlib", "click"}.isdisjoint(run.stdout.split())
