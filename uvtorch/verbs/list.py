"""`uvtorch torch list`: the catalog (contract 7)."""

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import product
from typing import Final

import click

from uvtorch.argv import backend_name
from uvtorch.backend import PLATFORMS, Backend
from uvtorch.catalog import PYTHONS, Build, Catalog
from uvtorch.choose.compatibility import platform_name
from uvtorch.errors import UsageError
from uvtorch.session import Session
from uvtorch.steps.verb import Verb

Cells = dict[Backend, dict[str, Build]]
"""The builds of one release: backend -> platform."""

EXAMPLES: Final = (
    ("list --release 2.14", "The builds of a release"),
    ("list --backend cu126 --platform windows", "The releases that have this build"),
)


@click.command("list", cls=Verb, examples=EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--release", metavar="VERSION", help="Only this torch, or all that begin so: 2.14.")
@click.option("--backend", metavar="BACKEND", help="Only this backend: cu126.")
@click.option("--platform", metavar="PLATFORM", help="Only this platform, or a part of its name: windows.")
@click.pass_obj
def list_(session: Session, as_json: bool, release: str | None, backend: str | None, platform: str | None) -> None:
    """Show the releases, builds and platforms there are."""
    known, out = session.catalog, session.out
    found = _found(known, release, backend, platform)
    if as_json:
        out.json({"schema": 1, "releases": [_described(known, *row) for row in found.items()]})
        return
    out.text(
        f"PyTorch's builds as uvtorch knows them, as of {known.as_of}. (?) has not been seen on its index yet.", ""
    )
    out.table([line for row in found.items() for line in _rows(known, *row)], ("", "platform", "builds"))


def _found(known: Catalog, release: str | None, backend: str | None, platform: str | None) -> dict[str, Cells]:
    """Release -> its builds that meet the filters, newest first. UsageError where there is none."""
    if backend is not None:
        backend_name(backend, "--backend")
    names = {str(one): one for one in known.builds}
    releases = _met("release", release, known.releases, lambda one: f"{one}.".startswith(f"{release}."))
    backends = _met("backend", backend, names, lambda one: one == backend)
    platforms = _met("platform", platform, PLATFORMS, lambda one: (platform or "").lower().replace(" ", "_") in one)
    found: dict[str, Cells] = {}
    for torch, name, key in product(reversed(releases), backends, platforms):
        if build := known.build(names[name], torch, key):
            found.setdefault(torch, {}).setdefault(names[name], {})[key] = build
    if not found:
        asked = (("release", release), ("backend", backend), ("platform", platform))
        said = [f"--{kind} {value}" for kind, value in asked if value]
        hint = f"`uvtorch torch list {said[-1]}` shows all of that"
        raise UsageError(f"no build in the catalog meets {' '.join(said)}", hint)
    return found


def _met(kind: str, asked: str | None, there: Iterable[str], admits: Callable[[str], bool]) -> list[str]:
    met = [one for one in there if asked is None or admits(one)]
    if not met:
        raise UsageError(f"the catalog has no {kind} {asked}", f"it has {' '.join(there)}")
    return met


def _described(known: Catalog, release: str, cells: Cells) -> dict[str, object]:
    backends = [
        {
            "backend": str(backend),
            "platforms": {
                key: {"pythons": _ordered(build.pythons), "certainty": build.certainty, "source": build.source}
                for key, build in builds.items()
            },
        }
        for backend, builds in cells.items()
    ]
    return {
        "torch": release,
        "date": known.releases[release],
        "backends": backends,
        "pypi": {platform: str(backend) for platform, (backend, _) in known.pypi[release].items()},
        "pairs": {
            package: [version for version, torch in versions.items() if release in torch]
            for package, versions in known.pairs.items()
        },
    }


def _rows(known: Catalog, release: str, cells: Cells) -> Iterator[tuple[str, ...]]:
    yield ()
    yield (f"torch {release}, {known.releases[release]}, Python {_span(cells)}",)
    for platform in PLATFORMS:
        here = [(backend, builds[platform]) for backend, builds in cells.items() if platform in builds]
        if here:
            names = (f"{backend}{'(?)' if build.certainty == 'inferred' else ''}" for backend, build in here)
            yield "", platform_name(platform), " ".join(names)


def _span(cells: Cells) -> str:
    """The Pythons of a release: `3.10 to 3.14 and free-threaded 3.14t`."""
    pythons = _ordered({python for builds in cells.values() for build in builds.values() for python in build.pythons})
    plain = [python for python in pythons if not python.endswith("t")]
    free = ", ".join(pythons[len(plain) :])
    return " to ".join(dict.fromkeys((plain[0], plain[-1]))) + (f" and free-threaded {free}" if free else "")


def _ordered(pythons: Collection[str]) -> list[str]:
    return [python for python in PYTHONS if python in pythons]
