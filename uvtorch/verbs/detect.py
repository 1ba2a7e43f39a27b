"""`uvtorch torch detect`: the machine, for a person or as JSON (contract 9)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from textwrap import TextWrapper

import click

from uvtorch import hardware, machine
from uvtorch.hardware import intel
from uvtorch.machine import Gpu, Machine, Platform
from uvtorch.steps.described import hardware_option


def run(env: Mapping[str, str], as_json: bool, described: str | None) -> str:
    """The text that the verb prints. `described` is a description to show instead of this machine.

    Raises MachineError if it cannot be read, UsageError for a malformed override in the environment.
    """
    facts = hardware.read_description(described) if described is not None else hardware.detect(env)
    return machine.to_json(facts) if as_json else report(facts)


def report(facts: Machine) -> str:
    """The machine in a few lines of ASCII, at most 100 columns wide."""
    rows = [("platform", _platform(facts.platform))]
    if driver := facts.nvidia_driver:
        rows.append(("NVIDIA driver", driver.version + (f" (CUDA {driver.cuda})" if driver.cuda else "")))
    gpus = Counter(map(_described, facts.gpus)) or {"none": 1}
    texts = [text if count == 1 else f"{count} x {text}" for text, count in gpus.items()]
    rows += zip(["GPU"] + [""] * (len(texts) - 1), texts, strict=True)
    for problem in facts.problems:
        rows += [(problem.kind, f"{problem.reason}."), *([("", problem.remedy)] if problem.remedy else [])]
    rows += [("note", note) for note in facts.notes]
    width = max((len(probe.probe) for probe in facts.probes), default=0)
    probes = [(f"{probe.probe:{width}}  {probe.outcome:7} {probe.ms:7.1f} ms", probe.detail) for probe in facts.probes]
    lines = [*_table(rows), *([""] if probes else []), *_table(probes)]
    return "\n".join(lines).encode("ascii", "replace").decode("ascii")


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    """`label  text` in lines, the text broken at column 100 and continued under itself."""
    width = max((len(label) for label, _ in rows), default=0) + 2
    wrapper = TextWrapper(100, subsequent_indent=" " * width, break_long_words=False, break_on_hyphens=False)
    lines = []
    for label, text in rows:
        wrapper.initial_indent = label.ljust(width)
        lines += wrapper.wrap(text) or [label]
    return lines


def _platform(platform: Platform) -> str:
    facts = [
        " ".join(filter(None, (platform.system, platform.os_version, platform.machine))),
        platform.libc,
        f"Jetson {platform.tegra}" if platform.tegra else None,
        "WSL" if platform.wsl else None,
        "in a container" if platform.container else None,
    ]
    return ", ".join(filter(None, facts))


def _described(gpu: Gpu) -> str:
    """`NVIDIA H200, compute capability 9.0, 140 GiB`."""
    facts = [gpu.name]
    if gpu.vendor == "nvidia":
        facts.append(f"compute capability {gpu.compute_capability or 'not known'}")
    if gpu.architecture and gpu.architecture not in gpu.name:
        facts.append(gpu.architecture)
    if memory := gpu.memory_mib:
        facts.append(f"{round(memory / 1024)} GiB" if memory >= 1024 else f"{memory} MiB")
    return ", ".join(filter(None, (*facts, _kind(gpu))))


def _kind(gpu: Gpu) -> str:
    if gpu.vendor == "intel" and not intel.supported(gpu):
        return "not supported by PyTorch XPU"
    if gpu.integrated and gpu.vendor != "apple":
        return "integrated"
    return "MIG" if gpu.mig and "MIG" not in gpu.name else ""


@click.command()
@click.option(
    "--json", "as_json", is_flag=True, help="Print the description that --hardware and UVTORCH_HARDWARE read."
)
@hardware_option("Show")
@click.pass_context
def detect(context: click.Context, as_json: bool, described: str | None) -> None:
    """Show this machine: platform, GPUs, driver, and how each probe ended."""
    click.echo(run(context.obj.env, as_json, described))
