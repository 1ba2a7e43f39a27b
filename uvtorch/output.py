"""The one place where uvtorch prints: coloured as uv is, as wide as the terminal, and nothing that acts on it.

Control characters are escaped and the credentials of URLs masked. A diff is escaped on terminals alone, for `patch`
reads it to the byte. Not by click's `style` and `wrap_text`: one line before uv takes over needs no import of click.
"""

import os
import sys
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from threading import Event
    from typing import TextIO

    from uvtorch.argv import CommandLine
    from uvtorch.errors import UvtorchError

WIDTH = 100
"""Columns where there is no terminal to ask."""

COLORS = ("auto", "always", "never")
"""What `--color` takes."""

_BOLD, _RED, _GREEN, _YELLOW, _CYAN = "1", "31", "32", "33", "36"
_LABELS = {
    **dict.fromkeys(("error", "refused", "broken"), _RED),
    **dict.fromkeys(("warning", "unreachable"), _YELLOW),
    **dict.fromkeys(("hint", "note", "fix"), _CYAN),
}
"""The first word of a line or row -> its colour."""
_DIFF = {"+": _GREEN, "-": _RED, "@": _CYAN, "$": _BOLD, "#": _BOLD}


def clean(text: str) -> str:
    """One line that acts on no terminal and tells no password."""
    return masked(text if text.isprintable() else "".join(map(_escaped, text)))


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    if "\udc80" <= char <= "\udcff":  # a byte that is not UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()


def masked(text: str) -> str:
    """The text with its URLs without credentials."""
    if "@" not in text or "://" not in text:
        return text
    import re  # noqa: PLC0415  most texts hold no URL

    return re.sub(r"(?<=://)[^/?#\s]*@", "****@", text)


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of whole words; a command in backquotes is one."""
    import re  # noqa: PLC0415  only terminals and tables need it

    lines = [""]
    for word in re.findall(r"(?:`[^`]*`|\S)+", text):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return lines


class Output:
    """How one command prints."""

    def __init__(self, line: "CommandLine", env: "Mapping[str, str]") -> None:
        self._line = line
        self._env = env
        self.quiet = line.has("--quiet")
        self._transient = False
        """Whether the terminal's last line is one of `working`."""
        self._busy = False
        if sys.stdout is not None and sys.stdout.errors == "strict":  # escape what its encoding lacks, as stderr does
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    # On stderr: what is decided, warned of, refused.

    def say(self, *texts: str) -> None:
        """Tell what was decided; not with `--quiet`."""
        self.tell("uvtorch", *texts)

    def warn(self, *texts: str) -> None:
        """Warn; not with `--quiet`."""
        self.tell("warning", *texts)

    def tell(self, label: str, *texts: str) -> None:
        """Print lines with a label; not with `--quiet`."""
        for text in () if self.quiet else texts:
            self._tell(label, text)

    def error(self, error: "UvtorchError") -> None:
        """Print an error and its hints, with `--quiet` too."""
        self._tell("error", str(error))
        for hint in error.hints:
            self._tell("hint", hint)

    def pass_on(self, text: str) -> None:
        """Print what uv said."""
        if text:
            self._write(text)

    def _tell(self, label: str, text: str) -> None:
        text, indent = clean(self._placed(text)), " " * (len(label) + 2)
        width = self._columns(sys.stderr)
        lines = wrapped(text, width - len(indent)) if width else [text]
        if self.in_color(sys.stderr):
            bold = {"uvtorch": len(text.partition(": ")[0]), "warning": len(text)}.get(label, 0)
            for at, line in enumerate(lines):
                lines[at] = styled(line[: max(bold, 0)], _BOLD) + line[max(bold, 0) :]
                bold -= len(line) + 1
            label = styled(label, _BOLD, _LABELS[label]) + styled(":", _BOLD) if label in _LABELS else f"{label}:"
        else:
            label += ":"
        self._write(f"{label} " + f"\n{indent}".join(lines) + "\n")

    def _placed(self, text: str) -> str:
        """The text with its commands for the project that `--directory` or `--project` names."""
        options = self._line.options if "`uv" in text else ()
        words = [word for option in options if option[0] in ("--directory", "--project") for word in option if word]
        if not words or "--script" in text:  # a script is named as seen from here
            return text
        import re  # noqa: PLC0415  few commands have these options
        import shlex  # noqa: PLC0415  as above

        where = shlex.join(words)
        command = (
            r"`(?:uv|uvtorch) (?:add |sync|lock|torch (?:use|backends) (?!-))(?![^`]*--(?:directory|project))[^`]*"
        )
        return re.sub(command, lambda found: f"{found[0]} {where}", text)

    def _write(self, text: str, *, transient: bool = False) -> None:
        if sys.stderr is not None:  # closed: print would take stdout in its place
            sys.stderr.write(("\r\x1b[2K" if self._transient else "") + text)
            sys.stderr.flush()
            self._transient = transient

    @contextmanager
    def working(self, text: str) -> "Iterator[None]":
        """A context in which, after half a second, a terminal shows the text."""
        if self._busy or not self.shows_progress:
            yield
            return
        import signal  # noqa: PLC0415  a terminal has half a second
        from threading import Event, Thread  # noqa: PLC0415  as above

        done = Event()
        thread = Thread(target=self._turn, args=(clean(text), done), daemon=True)
        # Signals are the main thread's: while it waits for uv, it takes them out of a queue.
        mask = getattr(signal, "pthread_sigmask", None)
        usual = mask and mask(signal.SIG_BLOCK, signal.valid_signals())
        thread.start()
        if mask:
            mask(signal.SIG_SETMASK, usual)
        self._busy = True
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._write("")
            self._busy = False

    def _turn(self, text: str, done: "Event") -> None:
        frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if "utf" in (sys.stderr.encoding or "").lower() else "|/-\\"
        wait, turn = 0.5, 0
        width = self._columns(sys.stderr) or 80
        while not done.wait(wait):
            self._write(f"{frames[turn % len(frames)]} {text}"[: width - 1], transient=True)
            wait, turn = 0.1, turn + 1

    @property
    def shows_progress(self) -> bool:
        """Whether `working` shows something."""
        off = self.quiet or self._line.has("--no-progress") or self._env.get("UV_NO_PROGRESS") not in (None, "", "0")
        return not off and _is_terminal(sys.stderr) and self._env.get("TERM") != "dumb"

    # On stdout: what the `torch` verbs and dry runs are asked for.

    def text(self, *paragraphs: str) -> None:
        """Print paragraphs."""
        for paragraph in paragraphs:
            self._print(wrapped(clean(paragraph), self.width))

    def line(self, text: str) -> None:
        """Print a line as it is: a command, to be copied."""
        self._print([clean(text)])

    def table(self, rows: "Iterable[Sequence[str]]", header: "Sequence[str]" = ()) -> None:
        """Print rows in columns; the last is wrapped, below the others where there is no room.

        A row of one cell is a heading, an empty one a blank line.
        """
        cells = [[*map(clean, row)] for row in ([header] if header else []) + [*rows]]
        widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in cells if row[1:]), strict=True)]
        for number, row in enumerate(cells):
            *head, last = row or [""]
            bold = not head or head[0] in ("*", "chosen") or (bool(header) and number == 0)
            self._print(self._row(head, last, widths), bold=bold)

    def _row(self, head: "Sequence[str]", last: str, widths: "Sequence[int]") -> list[str]:
        start = "".join(cell.ljust(width + 2) for cell, width in zip(head, widths, strict=False))
        indent = len(start)
        if head and self.width - indent < 24:
            return [start.rstrip(), *("    " + line for line in wrapped(last, self.width - 4))]
        first, *rest = wrapped(last, self.width - indent)
        return [(start + first).rstrip(), *(" " * indent + line for line in rest)]

    def json(self, document: object) -> None:
        """Print JSON, its URLs without credentials."""
        import json  # noqa: PLC0415  few verbs print it

        print(masked(json.dumps(document, indent=2)))

    def script(self, lines: "Iterable[str]") -> None:
        """Print what a dry run would do: decisions after `#`, a diff of each file, commands after `$`."""
        terminal = _is_terminal(sys.stdout)
        for text in lines:
            line = self._placed(text) if text[:1] == "#" else text
            shown = clean(line.removesuffix("\r")) if terminal or line[:1] in ("#", "$") else masked(line)
            code = _DIFF.get(line[:1])
            rows = [shown]
            if terminal and line[:1] == "#":
                rows = [f"# {row}" for row in wrapped(shown[2:], self.width - 2)]
            for row in rows:
                print(styled(row, code) if code and self.in_color(sys.stdout) else row)

    def _print(self, lines: "Sequence[str]", *, bold: bool = False) -> None:
        color, label = self.in_color(sys.stdout), lines[0].strip().partition(" ")[0].rstrip(":")
        shown = [styled(line, _BOLD) if bold and color else line for line in lines]
        if color and label in _LABELS:
            shown[0] = lines[0].replace(label, styled(label, _BOLD, _LABELS[label]), 1)
        print(*shown, sep="\n")

    # The terminal.

    @property
    def width(self) -> int:
        """The columns of stdout."""
        return self._columns(sys.stdout) or WIDTH

    def _columns(self, stream: "TextIO | None") -> int:
        """The columns of a terminal; 0 where it is none, or does not say."""
        named = self._env.get("COLUMNS", "")
        if not _is_terminal(stream) or stream is None:
            return int(named) if named.isdecimal() and stream is sys.stdout else 0
        try:
            return int(named) if named.isdecimal() else os.get_terminal_size(stream.fileno()).columns
        except (OSError, ValueError):
            return 0

    def in_color(self, stream: "TextIO | None") -> bool:
        """Whether to print in colour there, by uv's rule."""
        env, asked = self._env, self._line.value("--color")
        if asked in ("always", "never"):
            return asked == "always"
        if self._line.has("--no-color") or env.get("NO_COLOR"):
            return False
        if env.get("FORCE_COLOR") or env.get("CLICOLOR_FORCE"):
            return True
        term = env.get("TERM") or env.get("WT_SESSION") or "dumb"  # Windows' own terminal sets the second
        return _is_terminal(stream) and term != "dumb" and env.get("CLICOLOR") != "0"


def styled(text: str, *codes: str) -> str:
    """The text with a terminal's codes; empty where it is."""
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if text else ""


def _is_terminal(stream: "TextIO | None") -> bool:
    return stream is not None and not stream.closed and stream.isatty()
