"""What the choice loads: it lies on the path of every add and sync."""

import subprocess
import sys

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


PATH = f"import sys; sys.path[:0] = {sys.path!r}\n"
