"""`uvtorch pip install|sync|compile` and `tool install|run`: the build that fits, where nobody names one."""

import os
from collections.abc import Sequence

from uvtorch.backend import parse
from uvtorch.choose import Request
from uvtorch.environment import Build, Venv
from uvtorch.packages import normalize
from uvtorch.requirement import allows, named_by
from uvtorch.session import Session, Wanted, decision_line
from uvtorch.steps.resolve import leaves_to_pypi, reinstalled
from uvtorch.steps.route import knows, means, named, names_index, settings, target_of


def install(session: Session) -> int:
    """Run the command with a build for its PyTorch packages, the installed torch's or our choice, or as it was typed.

    Raises UvtorchError where there is no choice.
    """
    requirements = named(session)
    wanted = _wanted(session, requirements)
    if (left := _left_to_uv(session, wanted, requirements)) is not None:
        return _as_typed(session, left)
    python, installed = target_of(session)
    stays = None if wanted.insists else _stays(session, installed, requirements)
    backend, texts = session.backend_for(wanted), requirements or ("torch",)
    if stays:
        backend, texts = stays.backend, (*requirements, f"torch=={stays.release}")
    decision = session.settle(Request(texts, python, backend=backend))
    options = [*means(session, decision, requirements)]
    if not options:
        what = "no PyTorch package is named, and the build of what comes along is left to uv"
        return _as_typed(session, f"{what}; name those that come along (torch, torchvision) to have it chosen")
    if wanted.explicit and installed:  # uv keeps what satisfies a requirement, whatever its build
        others = {one.name for one in installed.builds if one.backend != decision.backend}
        options += reinstalled(sorted(others.intersection(map(named_by, requirements))))
    os.environ.pop("UV_TORCH_BACKEND", None)  # uv would take it for the packages that the decision is not about
    said = [f"using {decision.backend}, as the installed torch {stays.version}" if stays else decision_line(decision)]
    if session.line.verb == "tool install" and options[0] == "--torch-backend":  # uv's receipt does not hold it
        said.append("`uv tool upgrade` would take PyPI's build: upgrade by this command with `--upgrade`")
    return session.hand_over(*decision.warnings, said=said, options=options)


def _left_to_uv(session: Session, wanted: Wanted, requirements: Sequence[str]) -> str | None:
    """A warning, or "", where the command runs as it was typed; None where a build is to be chosen."""
    insists = wanted.explicit
    if not (requirements or insists or wanted.auto) or (not (insists and wanted.auto) and names_index(session)):
        return ""
    named = wanted.backend and wanted.origin != "local version" and knows(session, str(wanted.backend))
    if named or leaves_to_pypi(session, wanted.backend):
        return ""
    if (platform := session.line.value("--python-platform")) and not wanted.backend:
        what = f"no PyTorch build is chosen for {platform}: its hardware is not known"
        return f"{what}; name one with --torch-backend"
    return None


def _as_typed(session: Session, warning: str) -> int:
    session.line.argv = session.line.typed
    return session.hand_over(warning)


def _wanted(session: Session, requirements: Sequence[str]) -> Wanted:
    """What asks for a backend: uv's settings do as the environment does."""
    wanted = session.wanted(requirements, here=True)
    if wanted != Wanted():
        return wanted
    for table in settings(session):
        if isinstance(name := table.get("torch-backend"), str):
            return Wanted(parse(name), "variable")
    return wanted


def _stays(session: Session, installed: Venv | None, requirements: Sequence[str]) -> Build | None:
    """The torch that is installed and that uv will leave there: what joins it has to be of its build."""
    torch, line = installed.torch if installed else None, session.line
    if torch is None or torch.backend is None or torch.broken or line.has("--upgrade", "--reinstall"):
        return None
    renewed = map(normalize, line.values("--upgrade-package", "--reinstall-package"))
    asked = [text for text in requirements if named_by(text) == "torch"]
    return torch if "torch" not in renewed and all(allows(text, torch.release) for text in asked) else None
