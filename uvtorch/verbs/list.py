"""`uvtorch torch list`: the catalog (contract 7)."""

import json

import click

from uvtorch import catalog as catalogs
from uvtorch.backend import PLATFORMS
from uvtorch.catalog import Build, Catalog, number
from uvtorch.choose.fit import platform_name

LETTERS = dict(zip(PLATFORMS, "LAWwMm", strict=True))
"""Platform -> its letter in the table."""

WIDTH = 100


def run(as_json: bool, catalog: Catalog | None = None) -> str:
    """The text that the verb prints."""
    known = catalog or catalogs.load()
    return as_text(known) if as_json else table(known)


def as_text(catalog: Catalog) -> str:
    """The catalog as JSON, schema 1: releases newest first, each with its backends, platforms and Pythons."""
    releases = [
        {
            "torch": release,
            "date": date,
            "backends": [
                {
                    "backend": str(backend),
                    "platforms": {
                        platform: {
                            "pythons": sorted(build.pythons, key=_python_order),
                            "certainty": build.certainty,
                            "source": build.source,
                        }
                        for platform, build in index[release].items()
                    },
                }
                for backend, index in catalog.builds.items()
                if release in index
            ],
            "pypi": {platform: str(backend) for platform, (backend, _) in catalog.pypi[release].items()},
            "pairs": {
                package: [version for version, torch in versions.items() if release in torch]
                for package, versions in catalog.pairs.items()
            },
        }
        for release, date in reversed(catalog.releases.items())
    ]
    return json.dumps({"schema": 1, "releases": releases}, indent=2)


def table(catalog: Catalog) -> str:
    """The catalog for a person: a line a release, in ASCII, at most 100 columns wide."""
    lines = ["torch   date        Python     backends"]
    for release, date in reversed(catalog.releases.items()):
        cells = {backend: index[release] for backend, index in catalog.builds.items() if release in index}
        pythons = frozenset().union(*(build.pythons for platforms in cells.values() for build in platforms.values()))
        plain = sorted((python for python in pythons if not python.endswith("t")), key=number)
        start = f"{release:7} {date}  {f'{plain[0]}-{plain[-1]}':10}"
        line = start
        for backend, platforms in cells.items():
            cell = f" {backend}/{_letters(platforms)}"
            if len(line) + len(cell) > WIDTH:
                lines.append(line)
                line = " " * len(start)
            line += cell
        lines.append(line)
    legend = [f"{letter} {platform_name(platform)}" for platform, letter in LETTERS.items()]
    return "\n".join([*lines, "", ", ".join(legend[:4]), ", ".join([*legend[4:], "? not confirmed"])])


def _letters(platforms: dict[str, Build]) -> str:
    guessed = all(build.certainty == "inferred" for build in platforms.values())
    return "".join(LETTERS[platform] for platform in PLATFORMS if platform in platforms) + ("?" if guessed else "")


def _python_order(python: str) -> tuple[bool, tuple[int, ...]]:
    return python.endswith("t"), number(python.removesuffix("t"))


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """Show the releases, backends and platforms that uvtorch knows."""
    click.echo(run(as_json))
