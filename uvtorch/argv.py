"""uv's command line, as far as uvtorch must understand it. Lies on the hand-over path: imports nothing.

Which options take a value is a table, held by a test against the uv that is installed. What is in no table is never
guessed at: it ends up in `CommandLine.unknown`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


# uv 0.13.8, hidden options and aliases included. Before the verb uv takes the global ones only, after it both.
GLOBAL_VALUES = """
    --allow-insecure-host --trusted-host --cache-dir --color --config-file --directory --preview-features
    --preview-feature --project --python-fetch --python-preference
"""
GLOBAL_FLAGS = """
    --allow-python-downloads --help -h --isolated --[no-]managed-python --[no-]native-tls --no-cache
    --no-cache-dir -n --no-color --no-config --no-installer-metadata --[no-]offline --[no-]preview --no-progress
    --no-python-downloads --[no-]system-certs --quiet -q --show-settings --verbose -v
"""
TOP_FLAGS = "--version -V"

_LOCK_VALUES = """
    --config-setting --config-settings -C --config-settings-package --default-index --exclude-newer
    --exclude-newer-package --extra-index-url --find-links -f --fork-strategy --index --index-strategy
    --index-url -i --keyring-provider --link-mode --no-binary-package --no-build-isolation-package
    --no-build-package --no-sources-package --prerelease --prerelease-package --python -p --refresh-package
    --resolution --upgrade-group --upgrade-package -P
"""
_LOCK_FLAGS = """
    --[no-]binary --[no-]build --[no-]build-isolation --[no-]frozen --[no-]locked --no-index --[no-]refresh
    --[no-]require-build-hashes --no-sources --[no-]upgrade --pre -U
"""
_INSTALL_VALUES = "--no-editable-package --no-install-package --only-install-package --reinstall-package"
_INSTALL_FLAGS = """
    --[no-]active --[no-]compile-bytecode --[no-]compile --no-install-local --no-install-project
    --no-install-workspace --[no-]reinstall --only-install-local --only-install-project --only-install-workspace
    --force-reinstall
"""
_OTHER_VALUES = """
    --annotation-style --batch --bounds --branch --build-constraints --build-constraint -b --cert --client-cert
    --config --constraints --constraint -c --custom-compile-command --env-file --excludes --exclude --extra
    --format --from --generate-shell-completion --group --marker -m --max-recursion-depth --max-rounds
    --no-emit-package --no-extra --no-group --only-binary --only-emit-package --only-group --optional
    --output-file -o --output-format --overrides --override --package --pip-args --prefix --prune
    --python-executable --python-platform --python-version --requirements --requirement -r --resolver --rev
    --script --tag --target -t --with -w --with-editable --with-executables-from --with-requirements
"""
_OTHER_FLAGS = """
    --[no-]all-extras --all-groups --all-packages --[no-]allow-empty-requirements --[no-]allow-unsafe
    --[no-]annotate --ask -a --[no-]break-system-packages --[no-]check --check-exists --[no-]deps --[no-]dev
    --disable-pip-version-check --dry-run --[no-]editable -e --[no-]emit-build-options --[no-]emit-find-links
    --[no-]emit-index-annotation --[no-]emit-index-url --[no-]emit-marker-expression --[no-]emit-options
    --[no-]emit-trusted-host --exact --force --[no-]generate-hashes --gui-script --[no-]hashes --[no-]header
    --inexact --lfs --module --no-default-groups --no-emit-local --no-emit-project --no-emit-workspace
    --no-env-file --no-project --no-sync --[no-]workspace --only-dev --only-emit-local --only-emit-project
    --only-emit-workspace --raw --[no-]require-hashes --[no-]reuse-hashes -s --show-resolution --[no-]strict
    --[no-]strip-extras --[no-]strip-markers --[no-]system --[no-]universal --user --[no-]verify-hashes
"""
_OTHER_THERE = {"pip": "--editable -e --no-binary", "run": "-m --script"}
"""What takes a value in `uv pip` only, and none in `uv run` only."""

OURS = {
    "add": ("--torch-backend", "--dry-run"),
    "remove": ("--dry-run",),
    "sync": ("--torch-backend", "--auto"),
    "run": ("--torch-backend", "--auto"),
    "export": ("--torch-backend", "--auto"),
    "lock": ("--torch-backend",),
    "pip": ("--torch-backend",),  # uv's own there; what it is given may be ours to choose
    "tool": ("--torch-backend",),
}
"""The options that uvtorch adds to a verb and takes out of the command line. `--torch-backend` takes a value."""
TORCH_VERBS = ("detect", "explain", "list", "use", "backends", "doctor", "completion")
"""What may follow `uvtorch torch`."""

ALIASES = {
    "-C": "--config-setting",
    "-P": "--upgrade-package",
    "-U": "--upgrade",
    "-V": "--version",
    "-c": "--constraints",
    "-f": "--find-links",
    "-h": "--help",
    "-i": "--index-url",
    "-n": "--no-cache",
    "-o": "--output-file",
    "-p": "--python",
    "-q": "--quiet",
    "-r": "--requirements",
    "-v": "--verbose",
    "-w": "--with",
    "--constraint": "--constraints",
    "--requirement": "--requirements",
}
"""One name for each option that uvtorch asks about; `-m` and `-s` differ from verb to verb."""

INSTALLERS = frozenset(("pip install", "pip sync", "pip compile", "tool install", "tool run"))
"""The verbs of two words."""

VERBS = INSTALLERS | {"add", "remove", "sync", "run", "export", "lock"}
"""The verbs of uv that uvtorch acts on."""


def options(*tables: str) -> frozenset[str]:
    """The option names in these tables; `--[no-]x` is two."""
    names = " ".join(tables)
    return frozenset((names.replace("[no-]", "") + " " + names.replace("[no-]", "no-")).split())


def tables(family: str) -> tuple[frozenset[str], frozenset[str]]:
    """The options after a verb or its first word, with a value and without, and more: uv refuses those."""
    values = options(GLOBAL_VALUES, _LOCK_VALUES, _INSTALL_VALUES, _OTHER_VALUES)
    flags = options(GLOBAL_FLAGS, _LOCK_FLAGS, _INSTALL_FLAGS, _OTHER_FLAGS)
    other = options(_OTHER_THERE.get(family, ""))
    return values - other | flags & other, flags - other | values & other


class CommandLine:
    """A command line taken apart by `parse`."""

    def __init__(self, typed: list[str]) -> None:
        self.typed = typed
        self.verb: str | None = None
        """The first word that is not an option, `pip install` for two; None where there is none."""
        self.verb_at = 0
        """Where the verb stands in `argv`, its last word."""
        self.argv: list[str] = []
        """What uv gets: what was `typed` without uvtorch's own options."""
        self.options: list[tuple[str, str | None]] = []
        """uv's options in order, by their long names, with their values."""
        self.ours: list[tuple[str, str | None]] = []
        """uvtorch's own options in order; a value that is missing is None."""
        self.positionals: list[str] = []
        """What is no option; after `torch`, and after `run`'s command, all."""
        self.positionals_at: list[int] = []
        """Where each positional stands in `argv`."""
        self.unknown: str | None = None
        """The first option that no table knows; what follows is uncertain."""

    def has(self, *names: str) -> bool:
        """Whether one of these options of uv's is given."""
        return any(name in names for name, _ in self.options)

    def values(self, *names: str) -> list[str]:
        """The values given for these options, in order."""
        return [value for option, value in self.options if option in names and value is not None]

    def value(self, name: str) -> str | None:
        """The last value given for this option."""
        return next(reversed(self.values(name)), None)

    def ours_has(self, name: str) -> bool:
        """Whether this option of uvtorch's own is given."""
        return any(option == name for option, _ in self.ours)

    def take_rest(self, words: list[str]) -> None:
        """Take words for positionals."""
        self.positionals_at += range(len(self.argv), len(self.argv) + len(words))
        self.positionals += words
        self.argv += words

    def with_options(self, *extra: str) -> list[str]:
        """Uv's arguments with these directly after the verb, where they are options whatever follows."""
        return [*self.argv[: self.verb_at + 1], *extra, *self.argv[self.verb_at + 1 :]]


def parse(argv: list[str]) -> CommandLine:
    """Take a command line apart as uv's own parser (clap) does. Never fails: what it does not know is in `unknown`.

    Nothing is looked at after a verb that uvtorch does not act on. After `torch` only uv's global options are.
    """
    line = _Parser(argv)
    while line.words and line.take():
        pass
    line.take_rest(line.words)
    return line


class _Parser(CommandLine):
    def __init__(self, typed: list[str]) -> None:
        super().__init__(typed)
        self.words = [*typed]
        self.with_value, self.flags = options(GLOBAL_VALUES), options(GLOBAL_FLAGS, TOP_FLAGS)
        self.known_ours: tuple[str, ...] = ()

    def take(self) -> bool:
        """Take a word and its value; whether the next may be an option."""
        word = self.words.pop(0)
        own = self.verb == "torch"
        if word == "--":
            if own:  # click's to see
                self.take_rest([word])
            else:
                self.argv.append(word)
            return False
        if len(word) < 2 or word[0] != "-":
            if self.verb in (None, "pip", "tool"):
                return self._verb(word)
            self.take_rest([word])
            return self.verb not in ("run", "tool run")  # what follows the command belongs to that
        if own and word.partition("=")[0] not in self.with_value | self.flags:
            self.take_rest([word])
        elif word.startswith("--"):
            self._long(word)
        else:
            self.argv.append(word)
            self._short(word)
        return self.verb is not None or not self.has("--help", "--version")  # uv answers without looking any further

    def _verb(self, word: str) -> bool:
        self.argv.append(word)
        family = self.verb or word
        self.verb, self.verb_at = f"{self.verb} {word}" if self.verb else word, len(self.argv) - 1
        if self.verb == "torch":
            self.flags = options(GLOBAL_FLAGS) - {"--help", "-h"}
            return True
        if self.verb not in VERBS:
            return self.verb in ("pip", "tool")
        self.with_value, self.flags = tables(family)
        self.known_ours = OURS[family]
        return True

    def _long(self, word: str) -> None:
        name, equals, inline = word.partition("=")
        value = inline if equals else None
        if name in self.known_ours:
            if name == "--torch-backend" and not equals and self.words:
                value = self.words.pop(0)
            self.ours.append((name, value))
            return
        self.argv.append(word)
        if name not in self.with_value | self.flags:
            self.unknown = self.unknown or name
        self._option(name, value)

    def _short(self, word: str) -> None:
        """Read a cluster: `-q`, `-qv`, `-p3.12`, `-p=3.12`, `-qp 3.12`."""
        for place, letter in enumerate(word[1:], start=1):
            name, rest = "-" + letter, word[place + 1 :]
            if name not in self.with_value | self.flags:
                self.unknown = self.unknown or name
                return
            if name in self.with_value:
                self._option(name, rest.removeprefix("=") if rest else None)
                return
            self._option(name, None)

    def _option(self, name: str, value: str | None) -> None:
        if name in self.with_value and value is None and self.words:
            value = self.words.pop(0)
            self.argv.append(value)
        self.options.append((ALIASES.get(name, name), value))


_FOLLOWING = {
    "lock": (_LOCK_VALUES, _LOCK_FLAGS),
    "sync": (_LOCK_VALUES, _LOCK_FLAGS, _INSTALL_VALUES, _INSTALL_FLAGS),
    "pip compile": (_LOCK_VALUES,),
}
"""What such a command takes besides the global options."""


def forwarded(line: CommandLine, verb: str = "", *, again: bool = True) -> tuple[str, ...]:
    """The options that mean the same to the command of uv's that follows from this one.

    `again`: uv has locked or will, so nothing is upgraded twice or forbidden to change.
    """
    known = options(GLOBAL_VALUES, GLOBAL_FLAGS, *_FOLLOWING.get(verb, ()))
    if again:
        known -= options("--upgrade --upgrade-package --upgrade-group --refresh --locked --frozen")
    return tuple(word for option in line.options if option[0] in known for word in option if word is not None)


def torch_backend(line: CommandLine) -> str | None:
    """The backend that uvtorch's own options ask for: `auto`, a well-formed name, or None.

    Raises UsageError for a value that is missing, too many or no backend, and for two that contradict each other.
    """
    from uvtorch.errors import UsageError

    asked: dict[str, None] = {}
    for name, value in line.ours:
        if name == "--torch-backend":
            asked[backend_name(value, name)] = None
        elif value is not None:
            raise UsageError(f"{name} takes no value, and got `{value}`")
        elif name == "--auto":
            asked["auto"] = None
    if len(asked) > 1:
        raise UsageError(
            f"the options ask for two backends: {' and '.join(asked)}",
            "give one of `--auto` and `--torch-backend`, once",
        )
    return next(iter(asked), None)


def backend_name(value: str | None, origin: str) -> str:
    """`value` if it is `auto` or a well-formed backend; else raises UsageError naming `origin`: an option, a key."""
    from uvtorch import backend
    from uvtorch.errors import UsageError

    hint = "a backend is auto, cpu, xpu, cu126, rocm6.4 …, or nightly/cu130, test/cu130"
    if not value:
        raise UsageError(f"{origin} needs a backend", hint)
    if value == "auto" or backend.parse(value):
        return value
    if near := backend.meant(value):
        hint = f"did you mean `{near}`?"
    elif example := {"cuda": "cu126", "rocm": "rocm6.4"}.get(value.lower()):
        hint = f"name its version as well, such as `{example}`; `uvtorch torch list` shows all"
    raise UsageError(f"{origin}: `{value}` is not a backend", hint)


def is_set(env: "Mapping[str, str]", name: str) -> bool:
    """Whether uv takes a boolean variable as set."""
    return env.get(name, "").lower() not in ("", "0", "false", "f", "no", "n", "off")
