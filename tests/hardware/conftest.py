"""Lays out machines: a root with their files, and the stand-in for NVIDIA's library."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hardware import standin
from tests.hardware.scenes import Scene, lay_out
from uvtorch import hardware
from uvtorch.hardware import nvidia
from uvtorch.hardware import scene as looked
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


Detect = Callable[[Scene], Machine]


@pytest.fixture
def detect(tmp_path: Path, libraries: Callable[[bool], Path], monkeypatch: pytest.MonkeyPatch) -> Detect:
    """Detects a laid out machine with the real probes and the real pynvml."""
    root = tmp_path / "root"

    def run(scene: Scene) -> Machine:
        root.mkdir()
        env = dict(scene.env)
        lay_out(root, scene.files)
        if scene.nvml is not None:
            answers = tmp_path / "nvml.txt"
            answers.write_text(scene.nvml.text())
            env["STANDIN_NVML"] = str(answers)
            library = libraries(scene.nvml.old)
            if scene.host.platform.system == "windows":
                ask = nvidia.ask
                monkeypatch.setattr(nvidia, "ask", lambda *_, **__: ask(str(library), env, 30))
            elif scene.library:
                place = root / scene.library.lstrip("/") / "libnvidia-ml.so.1"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(library)
        monkeypatch.setattr(looked, "registry", lambda: scene.lists_adapters)
        return hardware.detect(env, root=str(root), host=scene.host)

    return run
