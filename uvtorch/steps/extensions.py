"""`uvtorch add flash-attn`: packages compiled against torch, from the index with their builds, and a torch to match."""

from collections.abc import Sequence

from uvtorch import cuda_extensions
from uvtorch.backend import Backend
from uvtorch.choose import Decision
from uvtorch.edits import extensions, pin
from uvtorch.extension_query import Match, OutOfReachError, Query, Wanted, built_from_source, told
from uvtorch.project import Choice
from uvtorch.project.pyproject import PyProject
from uvtorch.requirement import named_by
from uvtorch.session import Session, decision_line, requirements_of
from uvtorch.steps import choices
from uvtorch.steps.follow import follow_and_sync
from uvtorch.steps.pins import pins_of
from uvtorch.steps.requested import Requested, words_with
from uvtorch.transaction import Transaction, content


class Addition:
    """The extensions among what an `add` names, and the PyTorch packages `requested` with them."""

    def __init__(self, session: Session, requested: Sequence[Requested]) -> None:
        self.session = session
        self.requested = requested
        self.warnings: tuple[str, ...] = ()
        self.wanted = tuple(self._wanted())

    def _wanted(self) -> list[Wanted]:
        session, project = self.session, self.session.project
        if session.is_script or session.frozen:
            return []
        if any(source.backend is None for source in project.sources if project.is_pinned(source.package)):
            return []
        have = {source.package for source in project.sources}
        table = cuda_extensions.table(session.env)
        found = []
        for text in session.line.positionals:
            name = named_by(text)
            if name and name not in have and not project.is_pinned(name) and name in table.packages:
                found.append(Wanted(table.packages[name], text))
        return found

    def run(self) -> int | None:
        """Add them; the exit code. None: nothing was done, and `warnings` say what to know when uv does it.

        Raises as `Session.decide` does.
        """
        if not self.wanted:
            return None
        try:
            return self._into_choice() if self.session.project.selectable() else self._into_project()
        except OutOfReachError as error:
            self.warnings = (f"{error}: {self._names} is left to uv, and may be built for another torch or CUDA",)
            return None

    @property
    def _names(self) -> str:
        return " ".join(item.package for item in self.wanted)

    def _into_project(self) -> int | None:
        session, project = self.session, self.session.project
        pins = pins_of(session)
        texts = tuple(item.text for item in self.requested)
        backend = self._backend(texts, pins[0].backend if pins else None)
        requirements = (*texts, *requirements_of(project))
        first = session.decide(requirements, backend)
        query = Query(session, session.request(requirements, backend))
        match = next((found for one in _backends(first) if (found := query.best(one, self.wanted))), None)
        if match is None:
            self.warnings = tuple(built_from_source(first, self.wanted, query))
            return None
        packages = tuple(dict.fromkeys(item.package for item in self.requested))
        base = session.index_base
        assert match.decision.backend is not None
        file = session.file()
        if pins and all(one.backend == match.decision.backend for one in pins):
            pin.like(file, project, packages, pins)
        else:
            pin.to(file, project, packages, match.decision, base)
        extensions.take(file, project, match.found, match.decision.backend, match.torch, base)
        with session.transaction() as tx:
            tx.say(f"{told(match, base)}: {decision_line(match.decision)}")
            tx.warn(*match.decision.warnings, *self._undeclared(match, packages))
            self._carry_out(tx, file, words_with(session, self.requested, match.decision))
        return tx.code

    def _carry_out(self, tx: Transaction, file: PyProject, words: Sequence[str]) -> None:
        session = self.session
        before = content(session.required_site.lock)
        session.begin(tx, file)
        tx.uv(*words)
        follow_and_sync(session, tx, before)

    def _backend(self, texts: Sequence[str], pinned: Backend | None) -> Backend | None:
        said = self.session.wanted(texts, self.session.machine)
        if said.backend or (said.auto and not pinned):
            return said.backend
        return pinned or self.session.project.config.backend

    def _undeclared(self, match: Match, packages: Sequence[str]) -> tuple[str, ...]:
        """The warning that torch is not installed with what does not say it needs it."""
        silent = [item.package for item in match.found if not item.index.declares]
        if not silent or "torch" in {*self.session.project.pytorch_packages(), *packages}:
            return ()
        return (f"{', '.join(silent)} does not require torch by itself: `uvtorch add torch` adds it",)

    def _into_choice(self) -> int | None:
        """In a project of several backends, for the choice that `--optional` or `--group` names.

        Only from indexes whose wheels require their torch: a bound would hold for all choices.
        """
        session, project = self.session, self.session.project
        if self.requested:
            names = ", ".join(item.package for item in self.wanted)
            self.warnings = (f"{names} is left to uv: add it by itself, to the backend choice that it is built for",)
            return None
        choice = self._named_choice()
        if choice is None or choice.backend is None:
            first = next((one for one in project.selectable() if one.backend and one.backend.family == "cu"), None)
            first = first or project.selectable()[0]
            option = f"{'--optional' if first.kind == 'extra' else '--group'} {first.name}"
            self.warnings = (
                f"{self._names} is built for one backend: `uvtorch add {option} {self._names}` adds it to that choice",
            )
            return None
        own = [
            item._replace(extension=item.extension._replace(indexes=tuple(filter(_declares, item.extension.indexes))))
            for item in self.wanted
        ]
        requirements = choices.requirements_of_choice(project, choice)
        query = Query(session, session.request(requirements, choice.backend))
        match = query.best(choice.backend, own)
        if match is None:
            first_decision = session.decide(requirements, choice.backend)
            self.warnings = tuple(built_from_source(first_decision, own, query))
            return None
        file = session.file()
        extensions.take(file, project, match.found, choice.backend, match.torch, session.index_base, choice)
        with session.transaction() as tx:
            tx.say(f"{told(match, session.index_base)}: into {choice.target}")
            self._carry_out(tx, file, session.line.argv)
        return tx.code

    def _named_choice(self) -> Choice | None:
        target = choices.target_of(self.session.line)
        return next((one for one in self.session.project.selectable() if one.target == target), None)


def _declares(index: cuda_extensions.Index) -> bool:
    return index.declares


def _backends(decision: Decision) -> list[Backend]:
    """The backend that was decided on, then the others that would run here, as the choice ranks them."""
    if decision.backend is None:
        return []
    accepted = [row.backend for row in decision.candidates if row.accepted]
    family = [backend for backend in accepted if backend.family == decision.backend.family]  # never a silent CPU build
    return list(dict.fromkeys([decision.backend, *family]))
