"""The distribution: what is in the wheel and the sdist, that the wheel works, and what it declares."""

import ast
import subprocess
import sys
import tarfile
import tomllib
import zipfile
import zlib
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.index.project import Home
from uvtorch import __version__

pytest_plugins = ["tests.index.fixtures"]

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def sources() -> set[str]:
    """The package's files as they are in the repository."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "uvtorch").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_the_whole_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == sources() | {f"uvtorch-{__version__}.data/data/share/man/man1/uvtorch.1"}
    assert {"uvtorch/py.typed", "uvtorch/catalog/builds.toml", "uvtorch/catalog/packages.txt"} <= names
    assert wheel.name == f"uvtorch-{__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < (260_000 if "ng" in zlib.ZLIB_RUNTIME_VERSION else 250_000)  # that packs less tightly


def test_the_sdist_has_what_the_tests_need(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert sources() <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "tests/test_add.py", "examples/quickstart/train.py"} <= names
    assert not [name for name in names if name.endswith((".pyc", "uv.lock"))]


def test_the_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = message_from_bytes(archive.read(name))
        (scripts,) = (name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        assert "uvtorch = uvtorch.cli:main" in archive.read(scripts).decode()
    assert metadata["Name"] == "uvtorch"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Version"] == __version__
    extras = metadata.get_all("Provides-Extra") or []
    assert set(extras) == {"uv", "test"}
    assert "Typing :: Typed" in (metadata.get_all("Classifier") or [])


def test_the_installed_wheel_works_without_the_repository(wheel: Path, home: Home, tmp_path: Path) -> None:
    environment = {**home.environment, "VIRTUAL_ENV": str(tmp_path / "env")}
    environment.pop("PYTHONPATH", None)

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(home.uv, "venv", "-q", "env")
    folder = tmp_path / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    run(home.uv, "pip", "install", "-q", "--no-deps", "--python", str(folder / "python"), str(wheel))
    expected = f"uvtorch {__version__}\n"
    # Neither needs a dependency: what hands over to uv imports nothing else.
    assert run(str(folder / "python"), "-m", "uvtorch", "--version").endswith(expected)
    assert run(str(folder / "uvtorch"), "--version").endswith(expected)


def test_the_dependencies_are_what_the_package_imports() -> None:
    distributions = {"pynvml": "nvidia-ml-py"}
    imported = set()
    for path in (ROOT / "uvtorch").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    others = imported - sys.stdlib_module_names - {"uvtorch", "_signal"}
    declared = {text.partition(">=")[0] for text in PROJECT["dependencies"]}
    assert {distributions.get(name, name) for name in others} == declared
