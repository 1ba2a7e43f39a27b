"""`uvtorch torch list`: the catalog (contract 7)."""

from collections.abc import Collection, Iterator
from typing import Final

import click

from uvtorch.backend import PLATFORMS, Backend
from uvtorch.catalog import PYTHONS, Build, Catalog
from uvtorch.choose import platform_name
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
    found = {torch: _cells(known, torch, backend, platform) for torch in reversed(known.releases)}
    start = f"{release}." if release else ""
    found = {torch: cells for torch, cells in found.items() if cells and f"{torch}.".startswith(start)}
    if not found:
        filters = {"--release": release, "--backend": backend, "--platform": platform}
        said = " ".join(f"{option} {text}" for option, text in filters.items() if text)
        raise UsageError(
            f"no build in the catalog meets {said}",
            f"backends: {' '.join(map(str, known.builds))}",
            f"platforms: {' '.join(PLATFORMS)}",
        )
    if as_json:
        out.json({"schema": 1, "releases": [_described(known, *row) for row in found.items()]})
        return
    out.text(
        f"PyTorch's builds as uvtorch knows them, as of {known.as_of}. (?) has not been seen on its index yet.", ""
    )
    out.table([line for row in found.items() for line in _rows(known, *row)], ("", "platform", "builds"))


def _cells(known: Catalog, release: str, backend: str | None, platform: str | None) -> Cells:
    found = {
        one: {key: build for key, build in index.get(release, {}).items() if (platform or "").lower() in key}
        for one, index in known.builds.items()
        if backend in (None, str(one))
    }
    return {one: builds for one, builds in found.items() if builds}


def _described(known: Catalog, release: str, cells: Cells) -> dict[str, object]:
    def described(build: Build) -> dict[str, object]:
        return {"pythons": _ordered(build.pythons), "certainty": build.certainty, "source": build.source}

    return {
        "torch": release,
        "date": known.releases[release],
        "backends": [
            {"backend": str(backend), "platforms": {key: described(build) for key, build in builds.items()}}
            for backend, builds in cells.items()
        ],
        "pypi": {platform: str(backend) for platform, (backend, _) in known.pypi[release].items()},
        "pairs": {
            package: [version for version, torch in versions.items() if release in torch]
            for package, versions in known.pairs.items()
        },
    }


def _rows(known: Catalog, release: str, cells: Cells) -> Iterator[tuple[str, ...]]:
    """A release for a person: a heading, then what each platform has."""
    pythons = _ordered({python for builds in cells.values() for build in builds.values() for python in build.pythons})
    plain = [python for python in pythons if not python.endswith("t")]
    free = ", ".join(pythons[len(plain) :])
    span = " to ".join(dict.fromkeys((plain[0], plain[-1])))
    yield ()
    yield (f"torch {release}, {known.releases[release]}, Python {span}{free and f' and free-threaded {free}'}",)
    for platform in PLATFORMS:
        here = [(backend, builds[platform]) for backend, builds in cells.items() if platform in builds]
        if here:
            names = (f"{backend}{' (?)' if build.certainty == 'inferred' else ''}" for backend, build in here)
            yield "", platform_name(platform), " ".join(names)


def _ordered(pythons: Collection[str]) -> list[str]:
    return [python for python in PYTHONS if python in pythons]
