"""Lays out machines: a root with their files, and the stand-in for NVIDIA's library."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hardware import standin
from tests.hardware.scenes import Link, Scene, Script
from uvtorch import hardware
from uvtorch.hardware import nvml, windows
from uvtorch.machine import Machine


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """The stand-in, of today or (True) without what drivers before 418 lack; compiled once a session."""
    built: dict[bool, Path] = {}

    def get(old: bool) -> Path:
        if old not in built:
            built[old] = standin.build(tmp_path_factory.mktemp("nvml"), ["-DOLD"] if old else [])
        return built[old]

    return get


def lay_out(root: Path, files: "dict[str, str]") -> None:
    for path, text in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, Link):
            place.symlink_to(text)
        else:
            place.write_bytes(text.encode())
            if isinstance(text, Script):
                place.chmod(0o755)


Detect = Callable[[Scene], Machine]


@pytest.fixture
def detect(tmp_path: Path, libraries: Callable[[bool], Path], monkeypatch: pytest.MonkeyPatch) -> Detect:
    """Detects a laid out machine with the real probes and the real pynvml."""
    root = tmp_path / "root"

    def run(scene: Scene) -> Machine:
        root.mkdir()
        lay_out(root, dict(scene.files))
        if scene.nvml is not None:
            answers = tmp_path / "nvml.txt"
            answers.write_text(scene.nvml.text())
            monkeypatch.setenv("STANDIN_NVML", str(answers))
            library = libraries(scene.nvml.old)
            if scene.host.system == "windows":
                ask = nvml.ask
                monkeypatch.setattr(nvml, "ask", lambda _: ask(str(library)))
            else:
                place = root / scene.library.lstrip("/") / "libnvidia-ml.so.1"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(library)
        rows = windows.parse_adapters(scene.lists_adapters)
        monkeypatch.setattr(windows, "adapters", lambda: rows)
        return hardware.detect(scene.env, root=str(root), host=scene.host)

    return run
