"""NVML through the real pynvml and a stand-in library: every way a driver can answer, or not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hardware.conftest import Detect
from tests.hardware.scenes import H100, Copy, Link, Scene, cards, container, module, nodes, pci
from tests.hardware.standin import Card, Nvml, gpu_uuid
from uvtorch.errors import UsageError
from uvtorch.hardware import nvidia
from uvtorch.hardware import scene as looked
from uvtorch.machine import Driver, Gpu, Machine, from_json

GPU_ON_BUS = {**module("570.124.06"), **nodes(1), **pci("0000:10:00.0", "10de:2330", "nvidia")}


def outcome(machine: Machine, name: str) -> str:
    return next(probe.outcome for probe in machine.probes if probe.probe == name)


def detail(machine: Machine, name: str) -> str:
    return next(probe.detail for probe in machine.probes if probe.probe == name)


def test_one_gpu_is_told_in_full(detect: Detect) -> None:
    machine = detect(cards("570.124.06", 12080, H100))
    assert machine.gpus == (Gpu("nvidia", H100.name, "9.0", None, 81559, gpu_uuid(0)),)
    assert machine.nvidia_driver == Driver("570.124.06", "12.8")
    assert outcome(machine, "nvml") == "ok"
    assert detail(machine, "nvml") == "driver 570.124.06, 1 GPU"


def test_eight_gpus_keep_their_order(detect: Detect) -> None:
    machine = detect(cards("570.124.06", 12080, *[H100] * 8))
    assert [gpu.uuid for gpu in machine.gpus] == [gpu_uuid(number) for number in range(8)]


def test_mixed_models_keep_their_own_capabilities(detect: Detect) -> None:
    machine = detect(cards("580.95.05", 13000, Card("Tesla V100", "7.0", 16384), Card("NVIDIA B200", "10.0", 183359)))
    assert [gpu.compute_capability for gpu in machine.gpus] == ["7.0", "10.0"]


def test_unified_memory_is_not_known(detect: Detect) -> None:
    machine = detect(cards("580.95.05", 13000, Card("NVIDIA GB10", "12.1", 0)))
    assert machine.gpus[0].memory_mib is None


@pytest.mark.parametrize(
    ("code", "reason", "remedy"),
    [
        (4, "no permission", "/dev/nvidia*"),
        (8, "External Power", "dmesg"),
        (9, "570.124.06 is loaded, but its library cannot reach it", "nvidia-modprobe"),
        (14, "infoROM", "restart"),
        (15, "fallen off the bus", "Xid 79"),
        (16, "requires restart", "dmesg"),
        (17, "operating system blocks", "cgroup"),
        (18, "different versions (kernel module 570.124.06)", "Restart"),
        (999, "Unknown Error", "restart"),
        (3, "Not Supported", "restart"),
    ],
)
def test_an_init_error_is_a_broken_driver_with_its_remedy(code: int, reason: str, remedy: str, detect: Detect) -> None:
    machine = detect(Scene(files=GPU_ON_BUS, nvml=Nvml(init=code)))
    [problem] = machine.problems
    assert problem.kind == "broken"
    assert reason in problem.reason
    assert remedy in problem.remedy
    assert machine.gpus == ()
    assert machine.nvidia_driver == Driver("570.124.06"), "what /proc tells is kept"
    assert outcome(machine, "nvml") == "failed"


def test_a_mismatch_names_both_versions(detect: Detect, libraries: Callable[[bool], Path]) -> None:
    # As a driver's package lays it out; the stand-in itself is loaded from there.
    files = {
        **GPU_ON_BUS,
        "/usr/lib64/libnvidia-ml.so.1": Link("libnvidia-ml.so.575.57.08"),
        "/usr/lib64/libnvidia-ml.so.575.57.08": Copy(str(libraries(False))),
    }
    machine = detect(Scene(files=files, nvml=Nvml(init=18), library=""))
    assert "(kernel module 570.124.06, library 575.57.08)" in machine.problems[0].reason


def test_an_old_driver_without_newer_functions_still_tells_its_gpus(detect: Detect) -> None:
    scene = cards("390.157", 9010, Card("GeForce GTX 680", "3.0", 2048))
    assert scene.nvml is not None
    machine = detect(scene._replace(nvml=scene.nvml._replace(old=True)))
    assert machine.gpus == (Gpu("nvidia", "GeForce GTX 680", None, None, 2048, gpu_uuid(0)),)
    assert machine.nvidia_driver == Driver("390.157", "9.1")


def test_a_driver_that_hides_its_cuda_version_leaves_it_unknown(detect: Detect) -> None:
    machine = detect(cards("570.124.06", 0, H100))
    assert machine.nvidia_driver == Driver("570.124.06", None)
    assert len(machine.gpus) == 1


def test_one_lost_gpu_of_eight_is_a_note_and_the_others_stay(detect: Detect) -> None:
    machine = detect(cards("570.124.06", 12080, *[H100] * 3, H100._replace(code=15), *[H100] * 4))
    assert len(machine.gpus) == 7
    assert machine.problems == ()
    assert machine.notes == ("NVIDIA GPU 3 does not answer: a GPU is lost: it has fallen off the bus.",)


def test_the_only_gpu_lost_is_a_broken_machine(detect: Detect) -> None:
    machine = detect(cards("570.124.06", 12080, H100._replace(code=15)))
    assert [problem.kind for problem in machine.problems] == ["broken"]
    assert "fallen off the bus" in machine.problems[0].reason


def test_a_driver_that_sees_no_gpu_that_the_bus_has_is_broken(detect: Detect) -> None:
    machine = detect(Scene(files=GPU_ON_BUS, nvml=Nvml()))
    assert machine.problems[0].kind == "broken"
    assert "does not see the GPU (10de:2330)" in machine.problems[0].reason


def test_a_container_that_was_given_no_gpu_is_not_broken(detect: Detect) -> None:
    machine = detect(container(Scene(files={**GPU_ON_BUS, "/dev/nvidiactl": ""}, nvml=Nvml())))
    assert [problem.kind for problem in machine.problems] == ["unreachable"]


def test_a_library_without_a_gpu_is_no_problem(detect: Detect) -> None:
    machine = detect(Scene(files={}, nvml=Nvml(init=9), library="/usr/lib64"))
    assert machine.problems == ()
    assert outcome(machine, "nvml") == "absent"


def test_a_crash_of_the_library_is_told(detect: Detect) -> None:
    machine = detect(Scene(files=GPU_ON_BUS, nvml=Nvml(extra=("crash init",))))
    assert "crashed (signal 11)" in machine.problems[0].reason
    assert machine.nvidia_driver == Driver("570.124.06")


def test_a_hang_costs_no_more_than_the_limit_and_keeps_what_was_told(detect: Detect) -> None:
    scene = cards("570.124.06", 12080, H100, H100)
    assert scene.nvml is not None
    started = time.monotonic()
    hanging = scene.nvml._replace(extra=("hang memory 1",))
    machine = detect(scene._replace(nvml=hanging, env={"UVTORCH_PROBE_TIMEOUT": "3"}))
    took = time.monotonic() - started
    assert machine.nvidia_driver == Driver("570.124.06", "12.8")
    assert machine.problems[0].kind == "broken"
    assert "no answer within 3 s" in machine.problems[0].reason
    # The stand-in sleeps for a minute, and a busy machine takes its time: what is shown is that nobody waited for it.
    assert took < 30


def test_a_hung_child_is_killed_and_not_left_as_a_zombie(detect: Detect) -> None:
    def children() -> list[str]:
        return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()

    before = children()  # a server of another test's, perhaps
    detect(Scene(files=GPU_ON_BUS, nvml=Nvml(extra=("hang init",)), env={"UVTORCH_PROBE_TIMEOUT": "0.5"}))
    assert children() == before


@pytest.fixture
def hanging(libraries: Callable[[bool], Path], tmp_path: Path) -> tuple[str, dict[str, str], Path]:
    """(library, environment, where the program that asks it leaves its process id)."""
    log, answers = tmp_path / "inits", tmp_path / "nvml.txt"
    answers.write_text(Nvml(extra=("hang init", f"log {log}")).text())
    return str(libraries(False)), {**os.environ, "STANDIN_NVML": str(answers)}, log


def pid_of(log: Path) -> int:
    while not log.exists() or not log.read_text().endswith("\n"):
        time.sleep(0.01)
    return int(log.read_text().split()[1])


def is_gone(pid: int) -> bool:
    """Whether a process is, or is a zombie that nobody takes away here."""
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_a_child_that_cannot_die_is_left_behind(
    hanging: tuple[str, dict[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As one that sleeps in the driver, on which SIGKILL has no effect until it wakes.
    library, env, log = hanging
    monkeypatch.setattr(looked, "_kill", lambda _: None)
    report = nvidia.ask(library, env, 0.3)
    assert report.end == "hung"
    child = pid_of(log)
    os.kill(child, 0)  # it is still there, and nobody waits for it
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_ends_us_ends_the_question(name: str, hanging: tuple[str, dict[str, str], Path]) -> None:
    library, env, log = hanging
    code = (
        "import os, sys; from uvtorch.hardware import nvidia\n"
        f"try: nvidia.ask({library!r}, os.environ, 50)\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=env)
    child = pid_of(log)
    number = signal.Signals[name]
    process.send_signal(number)
    assert process.wait(30) == (130 if name == "SIGINT" else -number)
    assert is_gone(child)


def test_a_handler_of_our_own_comes_after_the_end_of_the_question(hanging: tuple[str, dict[str, str], Path]) -> None:
    library, env, log = hanging
    code = (
        "import os, signal, sys; from uvtorch.hardware import nvidia\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True))\n"
        f"print(nvidia.ask({library!r}, os.environ, 50).end)\n"
        "print(signal.getsignal(signal.SIGTERM).__name__)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
    child = pid_of(log)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0].splitlines() == ["told", "failed", "<lambda>"]
    assert is_gone(child)


def test_a_program_whose_parent_was_killed_ends_by_itself(hanging: tuple[str, dict[str, str], Path]) -> None:
    library, env, log = hanging
    code = f"import os; from uvtorch.hardware import nvidia; nvidia.ask({library!r}, os.environ, 1)\n"
    process = subprocess.Popen([sys.executable, "-c", code], env=env)
    child = pid_of(log)
    process.kill()
    process.wait(30)
    assert is_gone(child)


def test_a_slow_driver_gets_its_time_and_a_person_a_line(
    hanging: tuple[str, dict[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, env, _ = hanging
    monkeypatch.setattr(looked, "SHORT_S", 0.2)
    said: list[str] = []
    assert nvidia.ask(library, env, 0.5, said.append).end == "hung"
    assert said == [
        "NVIDIA's driver has not answered yet; waiting for up to 0.5 s (UVTORCH_PROBE_TIMEOUT sets the limit)"
    ]


@pytest.mark.parametrize(
    ("files", "seconds"),
    [
        ({**GPU_ON_BUS}, 15.0),
        ({**nodes(1), **pci("0000:10:00.0", "10de:2330")}, 2.0),  # no module is loaded
        (pci("0000:10:00.0", "10de:2330"), 2.0),
    ],
)
def test_a_driver_that_is_there_gets_more_time(
    files: dict[str, str], seconds: float, detect: Detect, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    report = nvidia.Report("hung", "x")

    def ask(_: object, __: object, seconds: float, ___: object) -> nvidia.Report:
        given.append(seconds)
        return report

    monkeypatch.setattr(nvidia, "ask", ask)
    detect(Scene(files=files, nvml=Nvml()))
    assert given == [seconds]


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf", "1e9", "\x1b[31m"])
def test_a_limit_that_is_no_number_of_seconds_is_an_error(value: str) -> None:
    with pytest.raises(UsageError, match="is not a number of seconds") as caught:
        looked.time_limit({"UVTORCH_PROBE_TIMEOUT": value}, alive=True)
    assert str(caught.value).isprintable()


def test_the_limit_is_the_users() -> None:
    assert looked.time_limit({"UVTORCH_PROBE_TIMEOUT": " 30 "}, alive=False) == 30
    assert looked.time_limit({"UVTORCH_PROBE_TIMEOUT": ""}, alive=False) == 2


def test_a_parent_that_ignores_its_childrens_end_gets_the_answer(libraries: Callable[[bool], Path]) -> None:
    code = (
        "import os, signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); from uvtorch.hardware import nvidia\n"
        f"print(nvidia.ask({str(libraries(False))!r}, os.environ, 30).failure == '')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "True\n"


def test_no_process_left_to_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    report = nvidia.ask(None, {}, 2)
    assert "could not be started: Resource temporarily unavailable" in report.failure
    assert report.end == "absent"


def test_nvml_is_asked_once(detect: Detect, tmp_path: Path) -> None:
    log = tmp_path / "inits"
    scene = cards("570.124.06", 12080, H100)
    assert scene.nvml is not None
    detect(scene._replace(nvml=scene.nvml._replace(extra=(f"log {log}",))))
    assert len(log.read_text().splitlines()) == 1


def test_the_child_leaves_the_parents_output_alone(
    libraries: Callable[[bool], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    print("before", flush=False)
    nvidia.ask(str(libraries(False)), {}, 30)
    assert capfd.readouterr() == ("before\n", "")


@pytest.mark.parametrize(
    "text",
    ["", "\n", "{", "[]", "null", "{}", '{"gpus": 1}', '{"gpus": [{}]}', '{"gpus": [], "lost": 1}', '"gpus"',
     '{"driver": "570"}', '{"other": "x"}', '[["driver", 1]]', "[" * 100_000, "\x00\xff" * 1000],
)  # fmt: skip
def test_a_garbled_answer_is_a_failure_not_an_exception(text: str) -> None:
    assert nvidia.parse(text).failure


def test_an_answer_that_ends_in_the_middle_keeps_what_came() -> None:
    report = nvidia.parse('{"driver": "570.124.06", "cuda": "12.8"}\n{"gpus": [{"na')
    assert (report.driver, report.cuda) == ("570.124.06", "12.8")
    assert report.failure == "it ended in the middle"


def test_a_program_without_pynvml_says_so(libraries: Callable[[bool], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [path for path in sys.path if "site-packages" not in path]
    monkeypatch.setattr(sys, "path", paths)
    monkeypatch.setattr(sys, "executable", sys._base_executable)  # type: ignore[attr-defined]
    report = nvidia.ask(str(libraries(False)), {}, 30)
    assert "No module named 'pynvml'" in report.failure


def test_the_loaders_own_way_to_the_library_is_taken_on_the_real_root(
    libraries: Callable[[bool], Path], tmp_path: Path
) -> None:
    """The whole way without a laid out root: LD_LIBRARY_PATH, pynvml's own loading, one question for one command."""
    log = tmp_path / "inits"
    answers = tmp_path / "nvml.txt"
    answers.write_text(Nvml("570.124.06", 12080, (H100, H100), extra=(f"log {log}",)).text())
    code = "import json, os; from uvtorch import hardware, machine\n"
    code += "print(json.dumps(machine.to_document(hardware.detect(os.environ))))"
    env = {
        "PATH": os.environ["PATH"],
        "LD_LIBRARY_PATH": str(libraries(False).parent),
        "STANDIN_NVML": str(answers),
    }
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    machine = from_json(result.stdout, "output")
    assert [gpu.name for gpu in machine.gpus if gpu.vendor == "nvidia"] == [H100.name] * 2
    assert machine.nvidia_driver == Driver("570.124.06", "12.8")
    assert len(log.read_text().splitlines()) == 1
