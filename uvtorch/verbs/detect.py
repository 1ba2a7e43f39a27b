"""`uvtorch torch detect`: the machine, for a person or as JSON (contract 9)."""

from collections.abc import Mapping

import click

from uvtorch import hardware, machine
from uvtorch.machine import Gpu, Machine


def run(env: Mapping[str, str], as_json: bool, described: str | None) -> str:
    """The text that the verb prints. `described` is a description to show instead of this machine.

    Raises MachineError if it cannot be read, UsageError for a malformed override in the environment.
    """
    facts = hardware.read_description(described) if described is not None else hardware.detect(env)
    return machine.to_json(facts) if as_json else report(facts)


def report(facts: Machine) -> str:
    """The machine in a few lines of ASCII, at most 100 columns wide."""
    platform = facts.platform
    about = [
        f"{platform.system} {platform.machine}",
        platform.libc,
        f"Jetson {platform.tegra}" if platform.tegra else None,
    ]
    about += ["WSL" if platform.wsl else None, "in a container" if platform.container else None]
    lines = [("platform", ", ".join(part for part in about if part))]
    if driver := facts.nvidia_driver:
        lines.append(("NVIDIA driver", driver.version + (f" (CUDA {driver.cuda})" if driver.cuda else "")))
    lines += [("GPU" if number == 0 else "", text) for number, text in enumerate(_grouped(facts.gpus) or ["none"])]
    for problem in facts.problems:
        lines.append((problem.kind, f"{problem.reason}."))
        if problem.remedy:
            lines.append(("", problem.remedy))
    lines += [("note", note) for note in facts.notes]
    width = max(len(label) for label, _ in lines)
    text = [row for label, value in lines for row in _wrapped(label.ljust(width), value)]
    if facts.probes:
        widest = max(len(probe.probe) for probe in facts.probes)
        text.append("")
        for probe in facts.probes:
            start = f"{probe.probe.ljust(widest)}  {probe.outcome.ljust(7)} {probe.ms:7.1f} ms"
            text += _wrapped(start, probe.detail)
    return "\n".join(text).encode("ascii", "replace").decode("ascii")


def _grouped(gpus: tuple[Gpu, ...]) -> list[str]:
    """A line for each kind of GPU: `8 x NVIDIA H200, compute capability 9.0, 140 GiB`."""
    texts = [_described(gpu) for gpu in gpus]
    return [(f"{texts.count(text)} x " if texts.count(text) > 1 else "") + text for text in dict.fromkeys(texts)]


def _described(gpu: Gpu) -> str:
    from uvtorch.hardware import intel

    parts = [gpu.name]
    if gpu.compute_capability:
        parts.append(f"compute capability {gpu.compute_capability}")
    elif gpu.vendor == "nvidia":
        parts.append("compute capability not known")
    if gpu.architecture and gpu.architecture not in gpu.name:
        parts.append(gpu.architecture)
    if gpu.memory_mib:
        parts.append(f"{round(gpu.memory_mib / 1024)} GiB" if gpu.memory_mib >= 1024 else f"{gpu.memory_mib} MiB")
    if gpu.mig and "MIG" not in gpu.name:
        parts.append("MIG")
    if gpu.vendor == "intel" and not intel.supported(gpu):
        parts.append("not supported by PyTorch XPU")
    elif gpu.integrated and gpu.vendor != "apple":
        parts.append("integrated")
    return ", ".join(parts)


def _wrapped(label: str, text: str) -> list[str]:
    """`label  text`, broken between words at column 100 and continued under the text."""
    rows, row = [], label + " "
    for word in text.split():
        if len(row) + 1 + len(word) > 100 and len(row) > len(label) + 1:
            rows.append(row.rstrip())
            row = " " * (len(label) + 1)
        row += " " + word
    return [*rows, row.rstrip()]


@click.command()
@click.option(
    "--json", "as_json", is_flag=True, help="Print the description that --hardware and UVTORCH_HARDWARE read."
)
@click.option(
    "--hardware", "described", metavar="FILE", help="Show the machine that FILE describes ('-': standard input)."
)
@click.pass_context
def detect(context: click.Context, as_json: bool, described: str | None) -> None:
    """Show this machine: platform, GPUs, driver, and how each probe ended."""
    click.echo(run(context.obj.env, as_json, described))
