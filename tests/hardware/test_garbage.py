"""Whatever the machine's files and variables hold, detection ends with a description that reads back."""

import tempfile
from pathlib import Path

from hypothesis import strategies as st

from tests.examples import given
from tests.hardware.scenes import ARM, LINUX, WSL, every_vendor, lay_out, to_json
from uvtorch import hardware, machine
from uvtorch.hardware.scene import Host

TREE = every_vendor()
PATHS = sorted(TREE)
NUMBERS = "\n".join(
    f"{name} {'9' * 23}"
    for name in ("gfx_target_version", "simd_count", "vendor_id", "device_id", "heap_type", "unique_id")
)
VALUES = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [*TREE.values(), "0x030000", "\x1b[31m", "-1", "9" * 5000, NUMBERS, "gfx", "GPU-", "\n" * 50, "," * 50]
    ),
)
VARIABLES = st.sampled_from(
    ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
     "HSA_OVERRIDE_GFX_VERSION", "LD_LIBRARY_PATH", "PATH", "container"]
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(PATHS), VALUES, max_size=6),
    st.sets(st.sampled_from(PATHS), max_size=4),
    st.dictionaries(VARIABLES, VALUES.filter(lambda value: "\0" not in value), max_size=3),
    st.sampled_from([LINUX, ARM, WSL]),
)
def test_detection_never_raises(changed: dict[str, str], absent: set[str], env: dict[str, str], host: Host) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = {path: text for path, text in {**TREE, **changed}.items() if path not in absent}
        lay_out(Path(folder), {path: text.encode("utf-8", "replace").decode() for path, text in files.items()})
        found = hardware.detect(env, root=folder, host=host)
    text = to_json(found)
    assert machine.from_json(text, "it") == found
    assert {probe.probe for probe in found.probes} >= {"nvml", "kfd", "intel"}
