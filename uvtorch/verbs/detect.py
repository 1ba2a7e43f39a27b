"""`uvtorch torch detect`: the machine, for a person or as JSON (contract 9)."""

from collections import Counter
from typing import Final

import click

from uvtorch import machine
from uvtorch.hardware import intel
from uvtorch.machine import Gpu, Machine, Platform
from uvtorch.output import Output
from uvtorch.session import Session
from uvtorch.steps.verb import Verb, hardware_option, machine_of


def report(facts: Machine, out: Output) -> None:
    """Print the machine for a person."""
    rows = [("platform", _platform(facts.platform))]
    if driver := facts.nvidia_driver:
        rows.append(("NVIDIA driver", driver.version + (f" (CUDA {driver.cuda})" if driver.cuda else "")))
    gpus = Counter(map(_described, facts.gpus)) or {"none": 1}
    texts = [text if count == 1 else f"{count} x {text}" for text, count in gpus.items()]
    rows += zip(["GPU"] + [""] * (len(texts) - 1), texts, strict=True)
    for problem in facts.problems:
        rows += [(problem.kind, f"{problem.reason}."), *([("", problem.remedy)] if problem.remedy else [])]
    out.table([*rows, *(("note", note) for note in facts.notes)])
    if facts.probes:
        out.text("")
        probes = [(one.probe, one.outcome, f"{one.ms:7.1f} ms", one.detail) for one in facts.probes]
        out.table(probes, ("probe", "result", "      time", "what it said"))


def _platform(platform: Platform) -> str:
    facts = (
        " ".join(filter(None, (platform.system, platform.os_version, platform.machine))),
        platform.libc,
        platform.tegra and f"Jetson {platform.tegra}",
        platform.wsl and "WSL",
        platform.container and "in a container",
    )
    return ", ".join(map(str, filter(None, facts)))


def _described(gpu: Gpu) -> str:
    """`NVIDIA H200, compute capability 9.0, 140 GiB`."""
    memory = gpu.memory_mib or 0
    part = "integrated" if gpu.integrated and gpu.vendor != "apple" else ""
    if gpu.vendor == "intel" and not intel.supported(gpu.pci_id):
        part = "not supported by PyTorch XPU"
    facts = (
        gpu.name,
        gpu.vendor == "nvidia" and f"compute capability {gpu.compute_capability or 'not known'}",
        gpu.architecture if (gpu.architecture or "") not in gpu.name else "",
        memory and (f"{round(memory / 1024)} GiB" if memory >= 1024 else f"{memory} MiB"),
        part,
    )
    return ", ".join(map(str, filter(None, facts)))


EXAMPLES: Final = (
    ("detect", "This machine, and how each probe of it ended"),
    ("detect --json > server.json", "A description, to choose for it from elsewhere"),
    ("detect --hardware server.json", "What that description says"),
)


@click.command(cls=Verb, examples=EXAMPLES)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the description that --hardware and UVTORCH_HARDWARE read."
)
@hardware_option("Show")
@click.pass_obj
def detect(session: Session, as_json: bool, described: str | None) -> None:
    """Show this machine: platform, GPUs, driver, probes."""
    facts = machine_of(session, described)
    if as_json:
        session.out.json(machine.to_document(facts))
    else:
        report(facts, session.out)
