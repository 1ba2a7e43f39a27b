"""`uvtorch pip install|sync|compile`, `tool install|run` and `run --with`: the build that fits, where nobody names one.

Where `--torch-backend` cannot say it (a uv that lacks the option or the name, a mirror, a bound, `run`), a small
project among the requirements names the index: by `--index`, numpy would come from there too, in an old copy.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from uvtorch import environment, files, uv
from uvtorch.argv import forwarded, is_set
from uvtorch.backend import DEFAULT_INDEX_BASE, from_url, parse, same_url
from uvtorch.choose import Decision, Request
from uvtorch.edits import companion_texts
from uvtorch.environment import Build, Venv
from uvtorch.errors import UsageError, UvtorchError
from uvtorch.index_query import compiled
from uvtorch.packages import arguments, brings_torch, normalize, roles
from uvtorch.project import Source
from uvtorch.project.indexes import given, uv_settings
from uvtorch.project.script import script_block
from uvtorch.requirement import allows, named_by, without_local
from uvtorch.session import Session, Wanted, decision_line, minor_version
from uvtorch.steps import choices
from uvtorch.steps.pins import requirements_in
from uvtorch.steps.resolve import leaves_to_pypi, newest_torch, reinstalled

_INDEX_OPTIONS = ("--index", "--default-index", "--index-url", "--extra-index-url", "--find-links", "--no-index")
_IN_FILE = r"^\s*(?:--(?:extra-)?index(?:-url)?|--find-links|--no-index|-i|-f|\[?(?:tool\.uv\.)?sources)\b"


def install(session: Session) -> int:
    """Run the command with the installed torch's build or our choice, or as it was typed.

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


def named(session: Session) -> tuple[str, ...]:
    """The requirements of PyTorch packages on the command line and in its files."""
    more = session.project.config.packages if session.site else ()
    found = ((named_by(text) or "", text) for text in _texts(session))
    return tuple(dict.fromkeys(text for name, text in found if roles().get(name) == "pin" or name in more))


def brought(session: Session) -> tuple[str, ...]:
    """The PyTorch packages that uv resolves for what is known to require torch."""
    texts, line = _texts(session), session.line
    if not brings_torch(texts, line.values("--extra")):
        return ()
    _, versions, _ = compiled(session.uv, forwarded(line, "pip compile"), Request(texts), session.machine.platform.key)
    return tuple(name for name in versions if roles().get(name) == "pin")


def _texts(session: Session) -> tuple[str, ...]:
    texts, files = arguments(session.line, session.env)
    return (*texts, *(text for path, keys in files for text in requirements_in(path, keys)))


def names_index(session: Session) -> bool:
    """Whether an option, a file, a variable or a setting says from which index PyTorch packages come."""
    line, env = session.line, session.env
    if line.has(*_INDEX_OPTIONS):
        return True
    urls = [one.url for one in given(line, env)] + re.split(r"[\s,]+", env.get("UV_FIND_LINKS", ""))
    urls += (url for table in settings(session) for url in _urls(table))
    return any(map(from_url, urls)) or any(_file_names_index(path) for path, _ in arguments(line, env)[1])


def settings(session: Session) -> Iterator[Mapping[str, Any]]:
    """The tables of uv's settings that count for the command, and their `[pip]`."""
    verb = session.line.verb or ""
    tool = verb.startswith("tool ")  # reads no project's
    root = session.site.root if session.site and not tool else None
    directory = root.directory if root else os.path.abspath(os.sep) if tool else session.directory
    found = uv_settings(directory, root.data if root else {}, session.line, session.env)
    for _, table in found:
        every = (table.get("pip"), table) if verb.startswith("pip ") else (table,)
        yield from (one for one in every if isinstance(one, Mapping))  # what is wrong, uv says better


def _urls(table: Mapping[str, Any]) -> Iterator[str]:
    """Those that serve every package."""

    def listed(key: str) -> Sequence[Any]:
        value = table.get(key)
        return value if isinstance(value, list) else [value]

    urls = [one.get("url") for one in listed("index") if isinstance(one, Mapping) and not one.get("explicit")]
    urls += (url for key in ("index-url", "extra-index-url", "find-links") for url in listed(key))
    yield from (url for url in urls if isinstance(url, str))


def _file_names_index(path: str) -> bool:
    text = files.text(path) or ""
    return re.search(_IN_FILE, (script_block(text) or "") if path.endswith(".py") else text, re.MULTILINE) is not None


def target_of(session: Session) -> tuple[str | None, Venv | None]:
    """The Python that `pip` or `tool` installs for, as `3.12`, and the environment whose packages stay."""
    line = session.line
    apart = (line.verb or "").startswith("tool ") or line.has("--system") or is_set(session.env, "UV_SYSTEM_PYTHON")
    command = ["python", "find", *forwarded(line), "--no-project", *(["--system"] if apart else [])]
    command += line.values("--python")[-1:]
    place = uv.ask(session.uv, command)[1].strip()
    found = environment.read(os.path.dirname(os.path.dirname(place))) if place else None
    version = line.value("--python-version") or (found and found.python)
    version = version or uv.ask(session.uv, [*command, "--show-version"])[1].strip()
    counts = line.verb in ("pip install", "pip sync") and not line.has("--target", "-t", "--prefix")
    return minor_version(version), found if counts else None


def means(session: Session, decision: Decision, requirements: Sequence[str]) -> tuple[str, ...]:
    """The options that have uv take the decision's build; none where that needs names of packages."""
    verb, backend = session.line.verb or "", decision.backend
    assert backend, "a decision has a backend"
    if not decision.bounds and knows(session, str(backend)):
        return "--torch-backend", str(backend)
    packages = requirements or brought(session)
    if not packages:
        return ()
    folder = project_for(session, decision, packages)
    if verb.startswith("tool"):
        return "--with-editable", folder
    file = os.path.join(folder, "pyproject.toml")
    return ("-r", file) if verb == "pip install" else (file,)


def knows(session: Session, backend: str) -> bool:
    """Whether `--torch-backend` means this backend to uv: on PyTorch's own indexes alone."""
    words = [*(session.line.verb or "").split(), "--torch-backend", backend, "--help"]
    return same_url(session.index_base, DEFAULT_INDEX_BASE) and uv.ask(session.uv, words)[0] == 0


def project_for(session: Session, decision: Decision, requirements: Sequence[str], pin: Source | None = None) -> str:
    """The folder, which stays, of a project with these packages from the decision's index or a pin's.

    Raises UvtorchError where it cannot be written.
    """
    names = dict.fromkeys(name for text in requirements if (name := named_by(text)))
    if not session.line.has("--no-deps") and session.line.verb != "pip sync":
        names["torch"] = None
    bounds = dict(decision.bounds)
    required = [name + bounds.get(name, "") for name in names]
    required += companion_texts(decision).values()
    backend = decision.backend
    name = backend.index_name if backend else "pytorch"
    index, url = name, backend.index_url(session.index_base) if backend else ""
    if pin and pin.index:  # under its own name: uv finds credentials by that
        index, url = pin.index, pin.url or ""
    sources = "\n".join(f"{one} = {{ index = {json.dumps(index)} }}" for one in (*names, *decision.companions))
    text = f"""\
# Written by uvtorch: PyTorch packages come from this index, and nothing else does.
[project]
name = "uvtorch-{name}"
version = "0"
dependencies = {json.dumps(required)}

[build-system]
requires = ["uv_build"]
build-backend = "uv_build"

[tool.uv.build-backend]
module-name = []

[tool.uv.sources]
{sources}

[[tool.uv.index]]
name = {json.dumps(index)}
url = {json.dumps(url)}
explicit = true
"""
    home = files.of_user(session.env.get("XDG_DATA_HOME"), session.env.get("LOCALAPPDATA") or "~/.local/share")
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    folder = os.path.join(home, "uvtorch", f"{name.removeprefix('pytorch-')}-{digest}")
    try:
        os.makedirs(folder, 0o700, exist_ok=True)  # a pin's URL may hold a password
        files.write(os.path.join(folder, "pyproject.toml"), text.encode())
    except OSError as error:
        raise UvtorchError(
            f"cannot write {folder}: {error.strerror}", "name another place: XDG_DATA_HOME=/path/that/can/be/written"
        ) from None
    return folder


# `run --with`: beside the project's packages, or without a project


def join(session: Session) -> None:
    """Have uv take what `--with` names from the project's index, else from the one that is chosen.

    Raises UsageError where another build is asked for, which would hide the project's.
    """
    line = session.line
    requirements = named(session) or brought(session)
    if not requirements or names_index(session):
        return
    wanted = session.wanted(requirements, here=True)
    inside = session.site is not None and (session.is_script or not line.has("--no-project"))
    pin = _pin(session) if inside else None
    if leaves_to_pypi(session, wanted.backend):
        return
    if pin is not None:
        decision = _like(session, pin, wanted, requirements)
    else:
        python = session.python if inside else target_of(session)[0]
        decision = session.settle(Request(requirements, python, backend=wanted.backend))
        session.out.say(decision_line(decision))
        session.out.warn(*decision.warnings)
    folder = project_for(session, decision, requirements, pin)
    line.argv = line.with_options("--with-editable", folder)


def _pin(session: Session) -> Source | None:
    """The source of torch, else of another package, in the choice that is named or that `sync` selects."""
    project, platform, wanted = session.workspace, session.machine.platform, session.wanted()
    rows, said = project.selectable(), choices.options_of(session)
    chosen = said.named(rows)
    if rows and not chosen and (wanted.auto or wanted.backend or project.config.auto):
        chosen = tuple(filter(None, [choices.selected(session, wanted, said).best]))
    targets = [one.target for one in chosen]
    found = [one for one in project.sources_on(platform) if one.target in targets]
    found += (one for member in session.projects for one in member.pins(platform))
    own = (one for one in found if one.index or one.backend)
    return min(own, key=lambda one: one.package != "torch", default=None)


def _like(session: Session, pin: Source, wanted: Wanted, requirements: Sequence[str]) -> Decision:
    """The project's own build, of its release of torch. UsageError where another is asked for."""
    asked, offered = wanted.backend, session.workspace.selectable()
    if wanted.auto and wanted.insists and not (offered or session.line.ours_has("--auto")):
        asked = session.decide(requirements).backend
    if asked and wanted.insists and asked != pin.backend:
        raise UsageError(
            f"--with asks for {', '.join(requirements)} from {asked}, and the project pins {pin.backend or pin.url}",
            "`uvtorch torch backends` lists what it offers"
            if offered
            else f"`uvtorch torch use {asked}` pins the project anew",
            "with `--no-project` the command runs without the project",
        )
    texts = [*map(without_local, requirements)]
    torch = newest_torch(session.locked(), pin.backend)
    named = any(named_by(text) == "torch" and text != "torch" for text in texts)
    release = [("torch", f"=={torch}")] if torch and not named else []
    texts += map("".join, release)
    decision = session.decide(texts, pin.backend) if pin.backend else Decision(None)
    return decision._replace(bounds=(*decision.bounds, *release))
