"""A machine's description: what is written reads back the same, and what is not one is a clear error."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.examples import given
from tests.hardware.scenes import to_json
from uvtorch import hardware, machine
from uvtorch.errors import MachineError
from uvtorch.machine import Driver, Gpu, Machine, Platform, Probe, Problem

MINIMAL = '{"schema": 1, "platform": {"system": "linux", "machine": "x86_64"}}'

CONTRACT = """
{"schema": 1,
 "platform": {"system": "linux", "machine": "x86_64", "libc": "glibc 2.36", "os_version": null,
              "wsl": false, "container": false},
 "gpus": [{"vendor": "nvidia", "name": "NVIDIA H200", "compute_capability": "9.0", "memory_mib": 143771},
          {"vendor": "amd", "name": "MI300X", "architecture": "gfx942"},
          {"vendor": "intel", "name": "Arc A770", "pci_id": "8086:56a0"},
          {"vendor": "apple", "name": "Apple M3"}],
 "nvidia_driver": {"version": "570.124.06", "cuda": "12.8"},
 "probes": [{"probe": "nvml", "outcome": "ok", "detail": "", "ms": 11.8}]}
"""


def test_the_published_example_is_read() -> None:
    assert machine.from_json(CONTRACT, "example") == Machine(
        Platform("linux", "x86_64", "glibc 2.36"),
        (
            Gpu("nvidia", "NVIDIA H200", "9.0", memory_mib=143771),
            Gpu("amd", "MI300X", architecture="gfx942"),
            Gpu("intel", "Arc A770", pci_id="8086:56a0"),
            Gpu("apple", "Apple M3"),
        ),
        Driver("570.124.06", "12.8"),
        probes=(Probe("nvml", "ok", "", 11.8),),
    )


def test_the_published_example_is_written_with_the_same_fields() -> None:
    written = json.loads(to_json(machine.from_json(CONTRACT, "example")))
    assert written == {**json.loads(CONTRACT), "problems": [], "notes": []}
    assert list(written) == ["schema", "platform", "gpus", "nvidia_driver", "problems", "notes", "probes"]


def test_absent_things_are_null_or_empty() -> None:
    assert json.loads(to_json(machine.from_json(MINIMAL, "m"))) == {
        "schema": 1,
        "platform": {
            "system": "linux", "machine": "x86_64", "libc": None, "os_version": None, "wsl": False, "container": False
        },
        "gpus": [],
        "nvidia_driver": None,
        "problems": [],
        "notes": [],
        "probes": [],
    }  # fmt: skip


NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=20).filter(str.isprintable)
MACHINES = st.builds(
    Machine,
    st.builds(
        Platform,
        st.sampled_from(["linux", "windows"]),
        st.just("x86_64"),
        st.none() | NAMES,
        st.none() | st.sampled_from(["13.6", "15"]),
        st.booleans(),
        st.booleans(),
        st.none() | st.just("R36.4.3"),
    ),
    st.lists(
        st.builds(
            Gpu,
            st.sampled_from(["nvidia", "amd", "intel", "apple"]),
            NAMES.filter(bool),
            st.none() | st.sampled_from(["9.0", "12.1"]),
            st.none() | st.just("gfx90a"),
            st.none() | st.integers(0, 2**39),
            st.none() | NAMES,
            st.none() | st.just("8086:56a0"),
            st.booleans(),
            st.booleans(),
        ),
        max_size=3,
    ).map(tuple),
    st.none() | st.builds(Driver, st.just("570.124.06"), st.none() | st.just("12.8")),
    st.lists(
        st.builds(Problem, st.just("nvidia"), st.sampled_from(["broken", "unreachable"]), NAMES.filter(bool), NAMES)
    ).map(tuple),
    st.lists(NAMES, max_size=3).map(tuple),
    st.lists(
        st.builds(Probe, NAMES.filter(bool), st.sampled_from(["ok", "failed"]), NAMES, st.floats(0, 1e6)), max_size=3
    ).map(tuple),
)


@given(MACHINES)
def test_any_machine_reads_back_the_same(one: Machine) -> None:
    text = to_json(one)
    assert machine.from_json(text, "it") == one
    assert to_json(machine.from_json(text.encode(), "it")) == text
    assert text.isascii()


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("utf-16", b""), ("utf-16-le", b"\xff\xfe")],
)
def test_encodings_that_shells_write_are_read(encoding: str, mark: bytes) -> None:
    assert machine.from_json(mark + MINIMAL.encode(encoding), "m").platform.system == "linux"


def test_unknown_fields_are_passed_over() -> None:
    data = json.loads(CONTRACT)
    data["cpu"] = {"cores": 8}
    data["gpus"][0]["clock_mhz"] = 1980
    assert machine.from_json(json.dumps(data), "m") == machine.from_json(CONTRACT, "m")


@pytest.mark.parametrize(
    ("system", "name", "read"),
    [
        ("linux", "arm64", "aarch64"),
        ("macos", "aarch64", "arm64"),
        ("windows", "AMD64", "x86_64"),
        ("linux", "riscv64", "riscv64"),
    ],
)
def test_a_processors_other_names_are_understood(system: str, name: str, read: str) -> None:
    text = json.dumps({"schema": 1, "platform": {"system": system, "machine": name}})
    assert machine.from_json(text, "m").platform.machine == read


def changed(**values: object) -> str:
    return json.dumps({**json.loads(CONTRACT), **values})


def gpu(**values: object) -> str:
    return changed(gpus=[{"vendor": "nvidia", "name": "x", **values}])


BAD = {
    "empty": ("", "it is empty"),
    "blank": (" \n", "it is empty"),
    "truncated": (CONTRACT[:200], "not valid JSON"),
    "not json": ("570.124.06, 9.0, NVIDIA H100", "not valid JSON"),
    "two documents": (MINIMAL * 2, "not valid JSON"),
    "a list": ("[]", "it must be an object"),
    "null": ("null", "it must be an object"),
    "a number": ("1", "it must be an object"),
    "nan": (changed(schema=1).replace("11.8", "NaN"), "a number of milliseconds"),
    "no schema": ('{"platform": {"system": "linux", "machine": "x86_64"}}', '"schema" is missing'),
    "schema true": (changed(schema=True), '"schema" is missing or not a number'),
    "schema zero": (changed(schema=0), '"schema" is missing or not a number'),
    "newer": (changed(schema=2), "its schema 2 is newer than this uvtorch"),
    "no platform": ('{"schema": 1}', '"platform" must be an object'),
    "no machine": ('{"schema": 1, "platform": {"system": "linux"}}', '"platform".machine must be'),
    "unknown system": (changed(platform={"system": "Linux", "machine": "x86_64"}), "linux, windows or macos"),
    "a path for a machine": (changed(platform={"system": "linux", "machine": "../x"}), '"platform".machine must be'),
    "wsl a string": (changed(platform={"system": "linux", "machine": "x86_64", "wsl": "no"}), "true or false"),
    "a word for a version": (
        changed(platform={"system": "macos", "machine": "arm64", "os_version": "Ventura"}), "a version such as 13.6"
    ),
    "a number for a version": (
        changed(platform={"system": "macos", "machine": "arm64", "os_version": 13.6}), "one line of printable text"
    ),
    "gpus an object": (changed(gpus={}), '"gpus" must be a list'),
    "a gpu null": (changed(gpus=[None]), '"gpus"[0] must be an object'),
    "too many gpus": (changed(gpus=[{}] * 5000), '"gpus" must be a list of at most 4096'),
    "unknown vendor": (gpu(vendor="acme"), "nvidia, amd, intel or apple"),
    "capability a number": (gpu(compute_capability=9.0), "one line of printable text"),
    "capability sm_90": (gpu(compute_capability="sm_90"), "two numbers such as 9.0"),
    "capability 9": (gpu(compute_capability="9"), "two numbers such as 9.0"),
    "capability huge": (gpu(compute_capability="9." + "9" * 1000), "two numbers such as 9.0"),
    "memory negative": (gpu(memory_mib=-1), "a whole number"),
    "memory true": (gpu(memory_mib=True), "a whole number"),
    "memory huge": (gpu(memory_mib=10**400), "a whole number"),
    "pci id": (gpu(pci_id="56a0"), "vendor and device in hexadecimal"),
    "architecture": (gpu(architecture="gfx942; rm -rf /"), "a name such as gfx942"),
    "an escape in a name": (gpu(name="H100\x1b]0;owned\x07"), '"gpus"[0].name must be one line of printable text'),
    "a new line in a name": (gpu(name="H100\nnote: x"), "one line of printable text"),
    "a lone surrogate": (gpu(name="\ud800"), "one line of printable text"),
    "a long name": (gpu(name="x" * 5000), "one line of printable text"),
    "driver a string": (changed(nvidia_driver="570.124.06"), '"nvidia_driver" must be an object'),
    "driver without version": (changed(nvidia_driver={"cuda": "12.8"}), "a driver's version such as 570.124.06"),
    "driver version": (changed(nvidia_driver={"version": "latest"}), "a driver's version such as 570.124.06"),
    "cuda": (changed(nvidia_driver={"version": "570.1", "cuda": "12"}), "a version of CUDA such as 12.8"),
    "problem": (changed(problems=[{"vendor": "nvidia", "kind": "odd", "reason": "x"}]), "broken or unreachable"),
    "note": (changed(notes=[1]), '"notes"[0] must be one line'),
    "outcome": (changed(probes=[{"probe": "nvml", "outcome": "maybe"}]), "ok, absent, failed or skipped"),
    "ms": (changed(probes=[{"probe": "nvml", "outcome": "ok", "ms": "fast"}]), "a number of milliseconds"),
    "ms infinite": (CONTRACT.replace("11.8", "1e999"), "a number of milliseconds"),
    "nested": ("[" * 100_000, ""),
    "nested objects": ('{"a":' * 100_000, ""),
    "too large": (" " * (machine.SIZE_LIMIT + 1), "larger than 1048576 bytes"),
    "digits": ('{"schema": ' + "9" * 10_000 + "}", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_description_is_one_clear_error(name: str) -> None:
    text, said = BAD[name]
    with pytest.raises(MachineError) as caught:
        machine.from_json(text, "machine.json")
    message = str(caught.value)
    assert message.startswith("machine.json is not a description of a machine: ")
    assert said in message
    assert "\n" not in message
    assert caught.value.hints


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff", b"\xc3\x28", b"\x00\x01\x02", b"\x89PNG\r\n\x1a\n", bytes(range(256))]
)
def test_bytes_that_are_no_text_are_an_error(data: bytes) -> None:
    with pytest.raises(MachineError, match="is not a description of a machine"):
        machine.from_json(data, "machine.json")


def assert_read_or_refused(text: str | bytes) -> None:
    refusal = ""
    try:
        one = machine.from_json(text, "x")
    except MachineError as error:
        refusal = str(error)
    else:
        assert machine.from_json(to_json(one), "x") == one
    assert not refusal or refusal.startswith("x is not a description of a machine: ")


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert_read_or_refused(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["system", "machine", "name", "vendor"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["platform", "gpus", "nvidia_driver", "problems", "notes", "probes"]), JSON))
def test_any_json_is_read_or_refused(values: dict[str, object]) -> None:
    assert_read_or_refused(changed(**values))


# The file it comes from


def test_a_file_is_read_and_an_absent_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(CONTRACT)
    assert hardware.detect({"UVTORCH_HARDWARE": str(path)}) == machine.from_json(CONTRACT, "m")
    with pytest.raises(MachineError, match="cannot be read: No such file"):
        hardware.detect({"UVTORCH_HARDWARE": str(tmp_path / "none.json")})
    with pytest.raises(MachineError, match="cannot be read: Is a directory"):
        hardware.detect({"UVTORCH_HARDWARE": str(tmp_path)})


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in ("/dev/zero", str(tmp_path / "fifo")):
        with pytest.raises(MachineError, match="cannot be read: it is not a regular file"):
            hardware.detect({"UVTORCH_HARDWARE": path})


def test_a_file_that_is_too_large_is_an_error(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**33)
    with pytest.raises(MachineError, match="larger than"):
        hardware.detect({"UVTORCH_HARDWARE": str(tmp_path / "large")})


def test_a_path_that_is_no_text_is_told_on_one_line(tmp_path: Path) -> None:
    for name in (b"\xff\x1b[31m", b"a\nb"):
        with pytest.raises(MachineError) as caught:
            hardware.detect({"UVTORCH_HARDWARE": str(tmp_path) + "/" + os.fsdecode(name)})
        assert str(caught.value).isprintable()
        str(caught.value).encode()


def test_a_description_replaces_detection_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(MINIMAL)
    env = {"UVTORCH_HARDWARE": str(path), "UV_CUDA_DRIVER_VERSION": "nonsense", "UV_AMD_GPU_ARCHITECTURE": "gfx942"}
    assert hardware.detect(env) == machine.from_json(MINIMAL, "m")
