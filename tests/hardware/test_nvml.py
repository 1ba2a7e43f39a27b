"""NVML through the real pynvml and a stand-in library: every way a driver can answer, or not."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hardware.conftest import Detect
from tests.hardware.scenes import H100, Copy, Link, Scene, Script, cards, container, module, nodes, pci
from tests.hardware.standin import Card, Nvml, gpu_uuid
from uvtorch.hardware import nvml
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
        (8, "power cable", "Connect"),
        (9, "570.124.06 is loaded, but its library cannot reach it", "nvidia-modprobe"),
        (11, "interrupt", "dmesg"),
        (14, "infoROM", "nvidia-smi -q"),
        (15, "fallen off the bus", "Xid 79"),
        (16, "reset", "--gpu-reset"),
        (17, "operating system blocks", "cgroup"),
        (18, "different versions (kernel module 570.124.06)", "Restart"),
        (999, "Unknown Error", "restart"),
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
    assert outcome(machine, "nvidia-smi") == "skipped"


def test_a_mismatch_names_both_versions(detect: Detect, libraries: Callable[[bool], Path]) -> None:
    # As a driver's package lays it out; the stand-in itself is loaded from there.
    files = {
        **GPU_ON_BUS,
        "/usr/lib64/libnvidia-ml.so.1": Link("libnvidia-ml.so.575.57.08"),
        "/usr/lib64/libnvidia-ml.so.575.57.08": Copy(str(libraries(False))),
    }
    machine = detect(Scene(files=files, nvml=Nvml(init=18), library=""))
    assert "(kernel module 570.124.06, library 575.57.08)" in machine.problems[0].reason


def test_another_error_goes_on_to_nvidia_smi(detect: Detect) -> None:
    smi = Script("#!/bin/sh\necho '570.124.06, 9.0, NVIDIA H100 PCIe'\n")
    machine = detect(Scene(files={**GPU_ON_BUS, "/usr/bin/nvidia-smi": smi}, nvml=Nvml(init=3)))
    assert machine.gpus == (Gpu("nvidia", "NVIDIA H100 PCIe", "9.0"),)
    assert machine.problems == ()
    assert [outcome(machine, name) for name in ("nvml", "nvidia-module", "nvidia-smi")] == ["failed", "ok", "ok"]


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


def test_a_hang_costs_two_seconds_and_keeps_what_was_told(detect: Detect) -> None:
    scene = cards("570.124.06", 12080, H100, H100)
    assert scene.nvml is not None
    started = time.monotonic()
    machine = detect(scene._replace(nvml=scene.nvml._replace(extra=("hang memory 1",))))
    took = time.monotonic() - started
    assert machine.nvidia_driver == Driver("570.124.06", "12.8")
    assert machine.problems[0].kind == "broken"
    assert "no answer within 1.8 s" in machine.problems[0].reason
    # The stand-in sleeps for a minute, and a busy machine takes its time: what is shown is that nobody waited for it.
    assert took < 30
    assert nvml.LIMIT_S + nvml.KILL_S < 2


def test_a_hung_child_is_killed_and_not_left_as_a_zombie(detect: Detect) -> None:
    detect(Scene(files=GPU_ON_BUS, nvml=Nvml(extra=("hang init",))))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_child_that_cannot_die_is_left_behind(
    libraries: Callable[[bool], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As one that sleeps in the driver, on which SIGKILL has no effect until it wakes.
    log = tmp_path / "inits"
    answers = tmp_path / "nvml.txt"
    answers.write_text(Nvml(extra=("hang init", f"log {log}")).text())
    monkeypatch.setenv("STANDIN_NVML", str(answers))
    monkeypatch.setattr(nvml, "_kill", lambda _: None)
    report = nvml.ask(str(libraries(False)), 0.5)
    assert report.hung
    child = int(log.read_text().split()[1])
    os.kill(child, 0)  # it is still there, and nobody waits for it
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_ctrl_c_ends_the_wait_and_the_child(libraries: Callable[[bool], Path], tmp_path: Path) -> None:
    log = tmp_path / "inits"
    answers = tmp_path / "nvml.txt"
    answers.write_text(Nvml(extra=("hang init", f"log {log}")).text())
    code = (
        "import sys; from uvtorch.hardware import nvml\n"
        f"try: nvml.ask({str(libraries(False))!r}, 50)\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "STANDIN_NVML": str(answers)})
    while not log.exists() or not log.read_text().endswith("\n"):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text().split()[1]), 0)


def test_a_parent_that_ignores_its_childrens_end_gets_the_answer(libraries: Callable[[bool], Path]) -> None:
    code = (
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); from uvtorch.hardware import nvml\n"
        f"print(nvml.ask({str(libraries(False))!r}).failure == '')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "True\n"


def test_no_process_left_to_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    report = nvml.ask(None)
    assert report.failure == "no process could be started to ask it: Resource temporarily unavailable"
    assert not report.hung


def test_nvml_is_asked_once(detect: Detect, tmp_path: Path) -> None:
    log = tmp_path / "inits"
    scene = cards("570.124.06", 12080, H100)
    assert scene.nvml is not None
    detect(scene._replace(nvml=scene.nvml._replace(extra=(f"log {log}",))))
    assert len(log.read_text().splitlines()) == 1


def test_asking_beside_threads_warns_of_nothing(libraries: Callable[[bool], Path]) -> None:
    # Python 3.12 and later warn of a fork in a process with threads; warnings are errors here.
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        report = nvml.ask(str(libraries(False)))
    finally:
        stop.set()
        thread.join()
    assert report.code is None


def test_the_child_leaves_the_parents_output_alone(
    libraries: Callable[[bool], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    print("before", flush=False)
    nvml.ask(str(libraries(False)))
    assert capfd.readouterr() == ("before\n", "")


def test_windows_way_of_asking_tells_the_same(
    libraries: Callable[[bool], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = tmp_path / "nvml.txt"
    answers.write_text(Nvml(cards=(H100,)).text())
    # In a child, as elsewhere: the stand-in must not stay loaded in the test's own process.
    monkeypatch.setenv("STANDIN_NVML", str(answers))
    expected = nvml.ask(str(libraries(False)))
    lines: list[str] = []
    read, write = os.pipe()
    pid = os.fork() if threading.active_count() == 1 else _fork_quietly()
    if pid == 0:
        report = nvml._in_thread(str(libraries(False)), 5.0)
        os.write(write, repr(report).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        lines.append(pipe.read())
    os.waitpid(pid, 0)
    assert lines == [repr(expected)]
    assert len(expected.devices) == 1


def _fork_quietly() -> int:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


@pytest.mark.parametrize(
    "text",
    ["", "\n", "gpu", "gpu x", "cuda twelve", "lost", "lost 1", "slice x", "error", "error x y", "name x\n",
     "memory 99999999999999999999999", "cc", "\x00\xff" * 1000, "driver\n" * 10000],
)  # fmt: skip
def test_a_garbled_answer_is_a_failure_not_an_exception(text: str) -> None:
    assert nvml.parse(text).failure


def test_an_answer_that_ends_in_the_middle_keeps_what_came() -> None:
    report = nvml.parse("driver 570.124.06\ncuda 12080\ngpu 0\nname NVIDIA H100\ncc 9 0\nmem")
    assert report.driver == "570.124.06"
    assert report.devices == (nvml.Device(0, "NVIDIA H100", "9.0"),)
    assert report.failure == "it ended in the middle"


def test_the_loaders_own_way_to_the_library_is_taken_on_the_real_root(
    libraries: Callable[[bool], Path], tmp_path: Path
) -> None:
    """The whole way without a laid out root: LD_LIBRARY_PATH, pynvml's own loading, one question for one command."""
    log = tmp_path / "inits"
    answers = tmp_path / "nvml.txt"
    answers.write_text(Nvml("570.124.06", 12080, (H100, H100), extra=(f"log {log}",)).text())
    code = "import os; from uvtorch.verbs.detect import run; print(run(os.environ, True, None))"
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
