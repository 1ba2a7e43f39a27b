"""What is loaded on paths that people take all day."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["click", "tomlkit", "pynvml", "json", "pathlib", "socket", "urllib"]


@pytest.mark.parametrize(
    "requirements",
    ['("torch",)', '("torch==2.9.1", "torchvision")', '("torch~=2.9.0",)', '("torch>=2.6,<2.10", "torchaudio==2.9.*")'],
)
def test_a_plain_request_is_settled_without_heavy_imports(requirements: str) -> None:
    program = f"""
import sys
from uvtorch import catalog
from uvtorch.choose import Request, choose
from uvtorch.machine import Driver, Gpu, Machine, Platform
machine = Machine(Platform("linux", "x86_64"), (Gpu("nvidia", "H100", "9.0"),), Driver("570.124.06"))
decision = choose(machine, Request({requirements}, "3.12", ">=3.11"), catalog.load())
assert decision.backend, decision
print(*(name for name in {HEAVY} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-S", "-c", PATH + program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


PINNED = """
[tool.uv.sources]
torch = [{ index = "pt", marker = "sys_platform == 'linux'" }]

[[tool.uv.index]]
name = "pt"
url = "https://download.pytorch.org/whl/cu126"
explicit = true
"""


@pytest.mark.skipif(shutil.which("true") is None, reason="needs a program that does nothing, for uv")
@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ("", ["add", "requests>=2", "./folder"]),
        (PINNED, ["add", "torch", "requests"]),
        (PINNED, ["remove", "requests"]),
        (PINNED, ["lock"]),
    ],
)
def test_what_brings_nothing_of_pytorchs_reads_no_project(tables: str, words: list[str], tmp_path: Path) -> None:
    text = '[project]\nname = "demo"\nversion = "1"\ndependencies = ["torch"]\n'
    (tmp_path / "pyproject.toml").write_text(text + tables)
    program = f"""
import os, sys
from uvtorch import cli
sys.argv = ["uvtorch", *{words}]
code = cli.run()
print(code, *(name for name in {[*HEAVY, "packaging", "tomllib", "subprocess", "re", "typing"]} if name in sys.modules))
"""
    environment = {**os.environ, "UVTORCH_UV": str(shutil.which("true"))}
    command = [sys.executable, "-S", "-c", PATH + program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0"]


PATH = f"import sys; sys.path[:0] = {sys.path!r}\n"
