"""What the catalog does not know, asked of the indexes: through uv, which has the client, cache and settings for it."""

import re
from collections.abc import Sequence

from uvtorch import uv
from uvtorch.backend import Backend
from uvtorch.catalog import Catalog
from uvtorch.choose import Decision, Request
from uvtorch.choose.decision import after_asking
from uvtorch.errors import NoBuild, UsageError
from uvtorch.machine import Machine
from uvtorch.packages import roles

_PLATFORMS = {
    "linux_x86_64": "x86_64-manylinux_2_28",
    "linux_aarch64": "aarch64-manylinux_2_28",
    "windows_amd64": "x86_64-pc-windows-msvc",
    "windows_arm64": "aarch64-pc-windows-msvc",
    "macos_arm64": "aarch64-apple-darwin",
    "macos_x86_64": "x86_64-apple-darwin",
}


def settle(
    decision: Decision, machine: Machine, request: Request, catalog: Catalog, base: str, uv_path: str
) -> Decision:
    """Put `decision.ask` to the indexes, in order, until one has what the request admits; uv is at `uv_path`.

    Raises NoBuild where none has it, and where one cannot be asked: a network failure is not a no.
    """
    found = None
    for backend in decision.ask:
        url, place = backend.index_url(base), machine.platform.key
        versions = _resolved(uv_path, url, request.requirements, place, request.python, "--no-deps")
        if versions is not None:
            found = backend
            decision = decision._replace(torch=versions.get("torch", "").partition("+")[0] or None)
            break
    decision = after_asking(decision, found, request, catalog)
    if decision.refusal:
        raise NoBuild(decision.refusal, *decision.hints)
    return decision


def nightly_companions(backend: Backend, request: Request, base: str, uv_path: str) -> tuple[str, ...]:
    """What torch on a nightly or test index takes from that index besides itself: Triton, under its name of the day.

    Raises NoBuild where the index cannot be asked or has no torch for Linux.
    """
    url = backend.index_url(base)
    versions = _resolved(uv_path, url, ("torch",), "linux_x86_64", request.python, "--prerelease", "allow")
    if versions is None:
        raise NoBuild(f"{url} has no torch", "name another backend or channel")
    return tuple(name for name, version in versions.items() if roles().get(name) == "companion" and "+" in version)


def check_mirror(uv_path: str, url: str, python: str | None) -> None:
    """Raise UsageError, with the reason, where what is at `url` is no index that has torch for Linux."""

    def ask(*options: str) -> tuple[int, str]:
        code, _, err = compiled(uv_path, ("--no-config", "--no-deps", *options), ("torch",), "linux_x86_64", python)
        return code, err

    code, err = ask("--default-index", url)
    if code == 1 and ask("--no-index", "--find-links", f"{url}/")[0] == 0:
        raise UsageError(
            f"{url} is a flat page of links, not an index: it has no page for each package, such as {url}/torch/",
            "name a mirror that has the pages; this one serves `uv pip install --find-links` alone",
        )
    if code:
        silent = code == 1 and "hint: An index" not in err
        why = ": its page for torch lists no wheel for Linux" if silent else reason(err)
        raise UsageError(f"{url} is no index that has torch{why}", f"{url}/torch/ is the page that uv looks for")


def target(platform: str, python: str | None) -> list[str]:
    """The options that make `uv pip compile` look for a platform's and a Python's wheels."""
    options = ["--python-platform", _PLATFORMS[platform]] if platform in _PLATFORMS else []
    return [*options, "--python-version", python] if python and not python.endswith("t") else options


def _resolved(
    uv_path: str, url: str, requirements: Sequence[str], platform: str, python: str | None, *options: str
) -> dict[str, str] | None:
    """What an index has for these requirements: name -> version; None: nothing. NoBuild where it cannot be asked."""
    options = ("--no-config", "--default-index", url, *options)
    code, versions, err = compiled(uv_path, options, requirements, platform, python)
    if code > 1:
        raise NoBuild(
            f"the catalog does not know this release, and {url} could not be asked{reason(err)}",
            "name a backend with --torch-backend, or try again when the index answers",
        )
    return versions if code == 0 else None


def compiled(
    uv_path: str,
    options: Sequence[str],
    requirements: Sequence[str],
    platform: str,
    python: str | None,
    patient: bool = True,
) -> tuple[int, dict[str, str], str]:
    """What `uv pip compile` makes of requirements: its exit code, what it resolved (see `answered`), what it said."""
    command = ("pip", "compile", "-q", "--no-header", "--no-annotate", *options, *target(platform, python), "-")
    code, out, err = uv.ask(uv_path, command, given="\n".join(requirements) + "\n", patient=patient)
    return code, answered(out), err


def reason(err: str) -> str:
    """Why uv could not ask, from what it said, in brackets; nothing where it gave no cause."""
    rows = [row.strip() for row in err.splitlines() if re.search("cause:|^error:|hint: An index", row)]
    return "".join(f" ({row.partition(': ')[2]})" for row in rows[-1:])


def answered(out: str) -> dict[str, str]:
    """`uv pip compile`'s output: name -> version, and `name from` -> the index it comes from."""
    found: dict[str, str] = {}
    last = ""
    for row in out.splitlines():
        text = row.strip()
        if text.startswith("# from "):
            found[f"{last} from"] = text.removeprefix("# from ")
        elif "==" in text and not text.startswith("#"):
            last, _, version = text.partition(";")[0].strip().partition("==")
            found[last] = version.partition(" ")[0]
    return found
