"""The table of machines: what is laid out is detected as tests/machines/NAME.json says, and every file is used."""

import os

import pytest

from tests.hardware.conftest import Detect
from tests.hardware.scenes import MACHINES, SCENES, to_json
from uvtorch import machine


@pytest.mark.parametrize("name", SCENES)
def test_a_machine_is_detected_as_described(name: str, detect: Detect) -> None:
    # The times differ from run to run, so that the files have no probes.
    text = to_json(detect(SCENES[name])._replace(probes=())) + "\n"
    path = MACHINES / f"{name}.json"
    if os.environ.get("WRITE_MACHINES"):
        path.write_text(text, encoding="ascii")
    assert text == path.read_text(encoding="ascii")
    assert to_json(machine.from_json(text, name)) + "\n" == text


def test_every_description_has_a_scene_and_there_are_enough() -> None:
    assert {path.stem for path in MACHINES.glob("*.json")} == set(SCENES)
    assert len(SCENES) >= 40
