"""Scripts with inline metadata (PEP 723): pinned in their block; uv locks one only where its user does."""

import os
import tomllib
from collections.abc import Iterable, Sequence

from uvtorch import uv
from uvtorch.argv import forwarded
from uvtorch.project.choices import torch_first
from uvtorch.session import Session, Wanted
from uvtorch.steps import choices
from uvtorch.steps.pins import pins_of, with_bound, workspace_packages
from uvtorch.steps.resolve import WorkspacePinning, leaves_to_pypi, tell_decision, tell_pypi
from uvtorch.transaction import Transaction


def pin_script(session: Session, tx: Transaction, wanted: Wanted) -> tuple[str, ...]:
    """Pin a script; the packages that are pinned anew, none where uv resolves no torch or the pins stood already.

    Packages that come with others are named among the dependencies. Raises NoBuild where nothing fits.
    """
    direct, pinning = workspace_packages(session), WorkspacePinning(session, tx, wanted)
    versions = {} if direct and pins_of(session) else _resolved(session)
    torch = versions.get("torch", "").partition("+")[0]
    if not direct and not torch:
        return ()
    by_text = direct or pinning.backend
    decision = pinning.refined(pinning.decide(), torch) if by_text else pinning.decide_for(torch)
    if leaves_to_pypi(session, pinning.backend):
        tell_pypi(tx, decision)
        return ()
    along = torch_first(sorted(versions.keys() - {*direct}))
    changed = pinning.edit(decision, along)
    tx.say(*(f"lowered {one.before} to {with_bound(one.before)}" for one in pinning.lowered))
    tell_decision(tx, decision, None, along)
    return (*workspace_packages(session), *decision.companions) if changed else ()


def _resolved(session: Session) -> dict[str, str]:
    """The PyTorch packages that uv resolves for a script, with their versions; none where it cannot be resolved."""
    path = session.required_site.manifest.path
    command = ("export", *forwarded(session.line, "lock"), "--quiet", "--script", path, "--format", "pylock.toml")
    code, out, _ = uv.ask(session.uv, command)
    rows = tomllib.loads(out).get("packages", []) if code == 0 else []
    return {row["name"]: row.get("version", "") for row in rows if session.project.is_pinned(row["name"])}


def reinstalled(packages: Iterable[str]) -> tuple[str, ...]:
    """The options that have uv put these in anew: it keeps what satisfies a requirement, whatever its index."""
    return tuple(word for name in packages for word in ("--reinstall-package", name))


def put_in_place(session: Session, tx: Transaction, packages: Sequence[str] = (), *, begin: bool = False) -> None:
    """Lock the project; for a script put the builds that are pinned now into its lock and its environment.

    `begin`: make that environment.
    """
    site, relock = session.required_site, choices.relock_command(session)
    if not session.is_script:
        tx.uv(*relock)
    elif begin or environment_of(session):
        tx.uv("sync", *relock[1:], "--script", site.manifest.path, *reinstalled(packages))
    elif os.path.exists(site.lock):
        tx.uv(*relock, "--script", site.manifest.path)


def out_of_place(session: Session) -> tuple[str, ...]:
    """The packages that the script's environment has from another backend than the script pins."""
    from uvtorch import environment  # noqa: PLC0415  `sync --auto` in a project need not wait for it

    pins = {pin.backend for pin in session.project.pins(session.machine.platform)}
    place = environment_of(session) if pins and None not in pins else None
    present = environment.read(place) if place else None
    return tuple(one.name for one in present.builds if one.backend and one.backend not in pins) if present else ()


def environment_of(session: Session) -> str | None:
    """Where uv keeps the script's environment; None where it has made none yet, and would name a Python outside."""
    path = session.required_site.manifest.path
    code, out, _ = uv.ask(session.uv, ("python", "find", *forwarded(session.line), "--script", path))
    place = os.path.dirname(os.path.dirname(out.strip()))
    kept = os.path.basename(os.path.dirname(place)).startswith("environments-")  # in uv's cache
    return place if code == 0 and kept else None
