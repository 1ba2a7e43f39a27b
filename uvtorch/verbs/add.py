"""`uvtorch add`: PyTorch packages with the index that serves this machine; all else as uv has it."""

from collections.abc import Sequence
from contextlib import suppress

from uvtorch import edits
from uvtorch.argv import is_set
from uvtorch.backend import Backend, from_url
from uvtorch.choose import Decision
from uvtorch.errors import NoBuild, ProjectError, UsageError
from uvtorch.packages import begins_with, extension_names
from uvtorch.project import Choice, Source
from uvtorch.project.indexes import given
from uvtorch.project.pyproject import PyProject
from uvtorch.requirement import bare_requirement, named_by
from uvtorch.session import Session, requirements_of
from uvtorch.steps import choices
from uvtorch.steps.follow import change_choices, follow_and_sync
from uvtorch.steps.pins import Change, Requested, pins_of, pins_unsaid, requested_by, words_with
from uvtorch.steps.resolve import Pinning, left_to_uv, newest_torch, pin_script, unfit
from uvtorch.steps.watch import watch
from uvtorch.transaction import Transaction, UvFailedError, content, quoted


def add(session: Session) -> int:
    """Add what the command line names; what is not PyTorch's, or has its index named, as uv does.

    Raises UvtorchError.
    """
    line = session.line
    if session.sources_off or line.has("--no-index"):
        return _leave_to_uv(session, "sources or indexes are switched off")
    project = session.project
    if not session.is_script and not project.has_project:
        raise ProjectError(f"{project.origin} has no `[project]` table", "`uv init --bare` makes a project")
    requested = requested_by(session)
    urls = [*line.values("--find-links"), *(one.url for one in given(line, session.env))]
    url = next(filter(from_url, urls), None)  # an index of a backend: then uv is told all it needs
    if url and requested:
        return _leave_to_uv(session, f"{url} is named as the index to use")
    code, warnings = (None, ()) if url else _add_extensions(session, requested)
    if code is not None:
        return code
    if not requested and not session.is_script:
        return watch(session, warnings=warnings)
    with session.transaction() as tx:
        tx.warn(*warnings)
        if requested:
            Adding(session, tx, requested).add()
        else:
            _add_to_script(session, tx)
    return tx.code


def _leave_to_uv(session: Session, reason: str) -> int:
    """Hand over, not in silence where a build was asked for."""
    if session.line.ours_has("--torch-backend"):
        raise UsageError(f"--torch-backend has nothing to do here: {reason}")
    return session.hand_over()


def _add_extensions(session: Session, requested: Sequence[Requested]) -> tuple[int | None, tuple[str, ...]]:
    named = extension_names().intersection(map(begins_with, session.line.positionals))
    if not named and "UVTORCH_EXTENSIONS" not in session.env:
        return None, ()
    from uvtorch.steps.extensions import add_extensions  # noqa: PLC0415  `add torch` loads nothing that it does not need

    return add_extensions(session, requested)


def _add_to_script(session: Session, tx: Transaction) -> None:
    pinned = pins_of(session)
    tx.uv(*session.line.argv)
    if not (tx.dry or pinned):
        session.reread()
        try:
            pin_script(session, tx, session.wanted())
        except NoBuild as error:
            tx.warn(unfit("", error))


class Adding(Pinning):
    """One `add` of PyTorch packages, within its transaction."""

    def __init__(self, session: Session, tx: Transaction, requested: Sequence[Requested]) -> None:
        self.requested, self.texts = requested, [item.text for item in requested]
        self.packages = tuple(dict.fromkeys(item.package for item in requested))
        self.replaced = {item.package for item in requested if item.text.strip() != bare_requirement(item.text)}
        self.standing = tuple(text for text in requirements_of(session.project) if named_by(text) not in self.replaced)
        """The project's own requirements that stay as they are: uv replaces one that is added with a specifier."""
        super().__init__(session, tx, session.wanted(self.texts), (*self.texts, *self.standing))
        self.before = content(session.required_site.lock)

    def add(self) -> None:
        """Add to the one build or the several builds that the project has."""
        if apart := self.session.project.by_local_version():
            raise ProjectError(
                f"{' and '.join(str(one.target) for one in apart)} are told apart by the local version of torch",
                f"write {self.packages[0]} into each, with its local version",
            )
        if self.session.project.selectable():
            self._to_choices()
        else:
            self._pinned()

    # One build for the project

    def _pinned(self) -> None:
        session, tx, wanted = self.session, self.tx, self.wanted
        pins = pins_of(session) or pins_unsaid(session)
        if pins and not (wanted.insists and (wanted.auto or any(one.backend != wanted.backend for one in pins))):
            self._like(pins)
        elif not wanted.insists and (said := left_to_uv(session)) is not None:
            tx.uv(*session.line.argv)
            tx.say(*said)
        elif not wanted.insists and _wants_variants(session) and not session.is_script:
            tx.uv(*session.without_sync(session.line.argv))
            follow_and_sync(session, tx, self.before, late=True)
        else:
            self._chosen()

    def _chosen(self) -> None:
        session, tx = self.session, self.tx
        if self.wanted.origin == "local version":  # its marker may leave it out here
            self.wanted = session.wanted(self.texts, here=True)
        decision = session.decide(self.requirements, self.backend)
        if self.leave_to_pypi(decision):
            tx.uv(*session.line.argv)
            return
        session.begin_script()
        self.loud = synced = session.frozen or not session.may_resolve_otherwise
        settled = self.settle(decision)
        if settled is None:
            tx.uv(*session.line.argv)
        late = settled is not None and not session.is_script and not (synced and settled is decision)
        follow_and_sync(session, tx, self.before, late=late)
        if settled and not session.is_script:
            self._tell_for_whom(settled)

    def _tell_for_whom(self, decision: Decision) -> None:
        systems = dict.fromkeys(key.partition("_")[0].capitalize() for key in sorted(decision.platforms or ()))
        who = "for all who install the project" + (f" on {' or '.join(systems)}" if systems else "")
        self.tx.say(f"the pin counts {who}: `uvtorch torch backends --help` shows how to offer several")

    def write(self, decision: Decision, along: Sequence[str]) -> Sequence[str]:
        """See Pinning."""
        session = self.session
        if decision.backend:
            change = Change(session, self.tx)
            keeping = (*self.standing, *(item.text for item in self.requested if item.position is None))
            change.to(decision, self.packages, along, keeping=keeping)
            change.write()
        words = words_with(session, self.requested, decision)
        return words if self.loud or session.is_script else session.without_sync(words)

    # From where the project's others come

    def _like(self, pins: Sequence[Source]) -> None:
        session, tx = self.session, self.tx
        decision = Decision(None) if self._is_settled() else self._edit_like(pins)
        code, _ = tx.attempt(*words_with(session, self.requested, decision))
        if code:
            self._tell_what_serves([pins[0].backend])
            tx.end(code)
        follow_and_sync(session, tx, self.before)

    def _is_settled(self) -> bool:
        project, added = self.session.project, {*self.packages}
        grouped = edits.in_group(project)
        named = added.union(item.package for item in project.requirements)
        have = {source.package for source in project.sources}
        return added <= have and added.isdisjoint(grouped) and "torch" in named - self.replaced

    def _edit_like(self, pins: Sequence[Source]) -> Decision:
        """Write the sources, and the bounds of the project's torch: torchaudio names no torch."""
        session, file, backend, decision = self.session, self.session.file(), pins[0].backend, Decision(None)
        torch = newest_torch(session.locked(), backend)
        fixed = (f"torch=={torch}",) if torch and "torch" not in self.packages else ()
        with suppress(NoBuild):
            decision = session.decide((*self.requirements, *fixed), backend)
        edits.pin_like(file, session.project, self.packages, pins, torch=decision.torch)
        if decision.backend:
            others = {name: limit for name, limit in decision.bounds if name != "torch"}
            file.leave_group({one.package for one in session.project.grouped if "<" in one.text} - {"torch", *others})
            edits.bound(file, [(name, limit) for name, limit in others.items() if name not in self.packages])
        if session.edit(self.tx, file):
            indexes = ", ".join(dict.fromkeys(one.index for one in pins if one.index))
            self.tx.say(f"{', '.join(self.packages)} from {indexes}, as the project has it")
        return decision

    def _tell_what_serves(self, offered: Sequence[Backend | None]) -> None:
        """Say what to type where an index cannot serve what is added."""
        session = self.session
        with suppress(NoBuild):
            able = [one for one in offered if self._serves(one)]
            best = session.decide(self.requirements)
            known = len(able) < len(offered)  # which releases of torchvision an index has, the catalog does not know
            asked = self.replaced and best.backend not in offered and not session.project.selectable()
            if not best.backend or not (known or asked):
                return
            if session.project.selectable():
                command = quoted(("uvtorch", "torch", "backends", *dict.fromkeys(map(str, (*able, best.backend)))))
                self.tx.warn(f"not every index of the choices can serve that; `{command}` offers others")
            elif best.torch:
                command = quoted(("uvtorch", *session.line.with_options("--torch-backend", "auto")))
                lack = "cannot serve" if known else "may lack"
                self.tx.warn(
                    f"the index of {offered[0]}, where the project is pinned, {lack} that; "
                    f"`{command}` chooses a build anew ({best.backend} here)"
                )

    def _serves(self, backend: Backend | None) -> bool:
        catalog = self.session.catalog
        if backend is None or backend not in catalog.builds:
            return True
        torch, names = self.session.decide(self.requirements, backend).torch, map(named_by, self.requirements)
        return torch is not None and not any(torch in catalog.lacking.get((one or "", backend), ()) for one in names)

    # Several builds to choose from

    def _to_choices(self) -> None:
        session, project = self.session, self.session.project
        positions = {item.position for item in self.requested}
        if session.line.has("--extra", "--marker", "-m") or None in positions:
            raise UsageError(
                "the project offers several builds of PyTorch, and each gets a requirement as it is typed",
                f"with its extras and marker: `uvtorch add \"{self.packages[0]} ; sys_platform == 'linux'\"`",
            )
        chosen, full = self._meant()
        file = session.file()
        for item, own in zip(self.requested, choices.places_for(session, chosen, self.texts), strict=True):
            alike, *others = {place.text for place in own.values()}
            edits.place(file, project, item.package, own, (item.text if others else alike) if full else None)
        self._bound_others(file, chosen)
        text = f"{', '.join(self.packages)} into {', '.join(str(choice.target) for choice in chosen)}"
        try:
            change_choices(session, self.tx, file, positions, text)
        except UvFailedError:
            self._tell_what_serves([one.backend for one in chosen if one.backend])
            raise

    def _bound_others(self, file: PyProject, chosen: Sequence[Choice]) -> None:
        """Another torch bounds what else the choices hold."""
        for choice in chosen if "torch" in self.replaced else ():
            texts = choices.requirements_of_choice(self.session.project, choice)
            others = [text for text in texts if named_by(text) not in self.packages]
            rows = choices.places_for(self.session, [choice], [*self.texts, *others])[len(self.texts) :]
            for text, row in zip(others, rows, strict=True):
                if row[choice].text != text:
                    file.set_requirement(choice.target, named_by(text) or "", row[choice].text)

    def _meant(self) -> tuple[tuple[Choice, ...], bool]:
        project, target = self.session.project, self.session.target
        offered = edits.editable(project)
        chosen = tuple(choice for choice in offered if target in (None, choice.target))
        if target is not None and not chosen:
            names = ", ".join(str(choice.target) for choice in offered)
            raise UsageError(
                f"{self.packages[0]} in {target} would come from PyPI, whatever backend is chosen",
                f"without a target it goes into every choice ({names}); `uv add` puts it there as it is",
            )
        if self.wanted.backend and self.wanted.insists:
            stated = {row.target for row in project.choices() if row.backend == self.wanted.backend}
            chosen = tuple(choice for choice in chosen if choice.target in stated)
            if not chosen:
                raise choices.no_such_choice(project, self.wanted.backend)
        return chosen, target is None and len(chosen) == len(offered)


def _wants_variants(session: Session) -> bool:
    """Whether uv's preview is on: then it is to look for variants before anything is pinned."""
    line, env = session.line, session.env
    named = " ".join((*line.values("--preview-features"), env.get("UV_PREVIEW_FEATURES", "")))
    return "wheel-variants" in named or line.has("--preview") or is_set(env, "UV_PREVIEW")
