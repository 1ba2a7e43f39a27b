"""Pins of a project and of its whole workspace: which there are, and changing all of its files together."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from uvtorch.choose import Decision
from uvtorch.edits import pin
from uvtorch.machine import Platform
from uvtorch.markers import can_hold
from uvtorch.project import Project, Source, Target
from uvtorch.project.choices import torch_first
from uvtorch.project.model import BASE
from uvtorch.project.outside import uv_toml
from uvtorch.project.pyproject import PyProject
from uvtorch.requirement import named_by, without_local
from uvtorch.session import Session, requirements_of
from uvtorch.transaction import Transaction


def pins_of(session: Session) -> tuple[Source, ...]:
    """The unselected sources of the project's PyTorch packages from an index; else those of a workspace sibling."""
    for project in session.projects:
        found = tuple(
            source
            for source in project.sources
            if source.target == BASE
            and source.index is not None
            and can_hold(source.marker)
            and project.is_pinned(source.package)
        )
        if found:
            return found
    return ()


def pin_here(projects: Iterable[Project], platform: Platform) -> Source | None:
    """The source that gives a platform torch, else another PyTorch package, from an index whatever is selected."""
    pins = (one for project in projects for one in project.pins(platform) if one.kind == "index")
    return min(pins, key=lambda pin: pin.package != "torch", default=None)


def workspace_packages(session: Session) -> tuple[str, ...]:
    """The PyTorch packages that the requirements of the whole workspace name."""
    return torch_first(sorted(name for project in session.projects for name in project.pytorch_packages()))


def workspace_requirements(session: Session) -> tuple[str, ...]:
    """The requirements of PyTorch packages of the whole workspace: one lock, one build."""
    return tuple(dict.fromkeys(text for project in session.projects for text in requirements_of(project)))


class Change:
    """The edits of every file of the workspace that says something about PyTorch, made together."""

    def __init__(self, session: Session, tx: Transaction) -> None:
        self.session = session
        self.tx = tx
        self._pins = False
        self.files: list[tuple[str, Project, PyProject]] = [
            (manifest.path, project, session.file(manifest)) for manifest, project in session.files
        ]

    def to(
        self,
        decision: Decision,
        packages: Sequence[str] = (),
        transitive: Sequence[str] = (),
        *,
        keeping: Sequence[str] | None = None,
    ) -> None:
        """Pin every project of the workspace that names PyTorch packages or pins them; this one if no other does.

        At a workspace's root its members' packages are pinned in the root's file, whose sources they inherit.
        `keeping`: the requirements that keep their local version, None: those of this project that have one.
        """
        self._pins = True
        session = self.session
        own, *others = self.files
        members_inherit = session.required_site.at_root
        shared: tuple[str, ...] = tuple(packages)
        pinned = False
        for path, project, file in others:
            names = (*project.pytorch_packages(), *self._overridden(path, project))
            if members_inherit and not any(source.index for source in project.own_sources):
                shared += names
            elif names:
                pinned = True
                pin.to(file, project, self._overridden(path, project), decision, session.index_base, staying=())
        path, project, file = own
        shared += self._overridden(path, project)
        if shared or transitive or project.pytorch_packages() or project.own_indexes or not pinned:
            pin.to(
                file,
                project,
                tuple(dict.fromkeys(shared)),
                decision,
                session.index_base,
                transitive=transitive,
                staying=requirements_of(project) if keeping is None else keeping,
            )
        self.bound(decision, packages)

    def bound(self, decision: Decision, added: Sequence[str] = ()) -> None:
        """Keep the packages that the workspace names within a decision's bounds; those `added` have theirs already."""
        names = set(workspace_packages(self.session)) - set(added)
        pin.bound(self.files[0][2], [(name, limit) for name, limit in decision.bounds if name in names])

    def _overridden(self, path: str, project: Project) -> tuple[str, ...]:
        """The pinned packages that the workspace's root overrides: sources reach these in its file alone."""
        root = self.session.required_site.root
        texts = root.data.get("tool", {}).get("uv", {}).get("override-dependencies", ()) if path == root.path else ()
        return tuple(name for name in map(named_by, texts) if name and project.is_pinned(name))

    def take_out(self) -> None:
        """Take every pin out, of all projects of the workspace."""
        for _, project, file in self.files:
            pin.take_out(file, project)

    def strip_local_versions(self) -> None:
        """`torch==2.9.1+cu128` becomes `torch==2.9.1`: the source names the backend."""
        for _, project, file in self.files:
            texts: dict[tuple[Target, str], list[str]] = {}
            for item in project.pytorch_requirements():
                texts.setdefault((item.target, item.package), []).append(item.text)
            for (target, package), found in texts.items():
                if any("+" in text for text in found):
                    file.set_requirement(target, package, *map(without_local, found))

    def write(self) -> bool:
        """Write the files; whether any of them changed. What they say is read anew afterwards."""
        changed, told = False, [*_beside_pins(self.session)] if self._pins else []
        first = self._pins and not pins_of(self.session)
        for path, _, file in self.files:
            changed |= self.session.edit(self.tx, file, path)
        self.session.reread()
        if changed:
            self.tx.warn(*told)
        if changed and first and _is_published(self.session.required_site.manifest.data):
            self.tx.say(
                "the pin is for development: sources are not published, so users install the build that fits them"
            )
        return changed


def _is_published(data: Mapping[str, Any]) -> bool:
    """Whether a project tells an index about itself, and not that it is private."""
    table = data.get("project", {})
    private = any(str(text).startswith("Private ::") for text in table.get("classifiers", ()))
    return "build-system" in data and not private and not table.keys().isdisjoint(("classifiers", "urls", "license"))


def _beside_pins(session: Session) -> Iterator[str]:
    """What is to be told where pins are written: what uv says and does beside them because of its configuration."""
    root = session.required_site.root
    path = None if root.script else uv_toml(root.directory, root.data)
    name, own = os.path.relpath(path or root.path), os.path.relpath(root.path)
    if path and os.path.dirname(path) == root.directory:
        yield f"uv will warn that `index` is ignored beside {name}; where a source names it, as here, it is not"
    elif path and "uv" not in root.data.get("tool", {}):
        yield f"uv reads {own} in the place of {name} from now on, for it has a `[tool.uv]`: copy what it still needs"
    for one in session.outside:
        yield f"{one.origin} gives uv {one.url} for every package: remove it there, or numpy comes from it too"
