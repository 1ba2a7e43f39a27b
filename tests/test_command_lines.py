"""What uv is told by `uvtorch sync --auto`, `run --auto` and `export --auto`: each project layout on each machine."""

import contextlib
import io
import tomllib
from pathlib import Path

import pytest

from uvtorch.argv import parse
from uvtorch.errors import UvtorchError
from uvtorch.session import Session
from uvtorch.verbs.sync import sync

HERE = Path(__file__).parent
LAYOUTS = HERE / "layouts"
MACHINES = {
    "cpu": "cpu-only",
    "cuda12": "rtx4090-550",
    "cuda13": "h200-580",
    "rocm": "mi300x-gfx942",
    "xpu": "arc-b580",
    "macos": "macos-m3",
}
EXPECTED: dict[str, dict[str, str]] = tomllib.loads((HERE / "command_lines.toml").read_text())
NAMES = sorted(tomllib.loads((LAYOUTS / "expected.toml").read_text()))


def lay_out(name: str, path: Path) -> Path:
    """The layout as files under `path`; the directory in which it is worked on."""

    def put(folder: Path, file: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").write_bytes(file.read_bytes())
        return folder

    own, root, member = (LAYOUTS / f"{name}{part}.toml" for part in ("", ".root", ".member"))
    if root.exists():
        put(path, root)
        return put(path / _member_directory(root, own), own)
    if member.exists():
        put(path / _member_directory(own, member), member)
    return put(path, own)


def _member_directory(root: Path, member: Path) -> str:
    (pattern,) = tomllib.loads(root.read_text())["tool"]["uv"]["workspace"]["members"]
    name: str = tomllib.loads(member.read_text())["project"]["name"]
    return str(pattern).replace("*", name)


def told(words: list[str], machine: str, **env: str) -> str:
    """The uv command lines for a command in the current directory, on the machine of this name in tests/machines."""
    found = {"UVTORCH_HARDWARE": str(HERE / "machines" / f"{machine}.json"), "UVTORCH_UV": "/nowhere/uv", **env}
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            sync(Session(parse(words), found, dry=True))
    except UvtorchError as error:
        return f"error: {error}"
    rows = shown.getvalue().splitlines()
    lines = [row.removeprefix("$ uv ") for row in rows if row.startswith("$ uv ")]
    if any(row.startswith("+++ ") for row in rows):
        assert lines.pop(0) == "lock", "what is written is locked before uv goes on"
        lines.insert(0, next(row.split()[2] for row in rows if row.startswith("# using ")) + " is written")
    if any(row.startswith("# warning: ") for row in rows):
        lines.append("a warning")
    return "; ".join(lines)


def test_every_layout_has_its_command_lines() -> None:
    assert sorted(EXPECTED) == NAMES
    assert all(set(rows) <= set(MACHINES) for rows in EXPECTED.values())


@pytest.mark.parametrize("name", NAMES)
def test_sync_auto_on_each_machine(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lay_out(name, tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    found = {key: told(["sync", "--auto"], machine) for key, machine in MACHINES.items()}
    rows = EXPECTED[name]
    assert found == {key: rows.get(key, rows["cpu"]) for key in MACHINES}
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
