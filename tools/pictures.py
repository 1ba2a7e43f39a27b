"""Make the terminal pictures of the documents (SVG) from real runs, or check that they are current.

    python tools/pictures.py           # say which are not current; exit code 1 if one is not
    python tools/pictures.py --write   # make them

Each runs uvtorch on a machine that the package describes, 80 columns wide, in colour.
"""

import argparse
import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
PICTURES = {
    "explain": "torch explain --hardware gtx1080 --compare torch",
    "list": "torch list --release 2.1",
    "detect": "torch detect --hardware h100",
}
COLOURS = {"31": "#d03050", "32": "#2c8a4b", "33": "#9a6700", "36": "#0e7c86"}
WIDTH, LINE = 8.0, 18  # of a letter and of a line, in pixels


def run(command: str) -> str:
    """What uvtorch prints for it in a terminal of 80 columns."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "UVTORCH_"))}
    environment |= {"FORCE_COLOR": "1", "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    environment.pop("NO_COLOR", None)
    command_line = [sys.executable, "-m", "uvtorch", *command.split()]
    return subprocess.run(
        command_line, cwd="/", env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=True
    ).stdout


def picture(command: str, output: str) -> str:
    """An SVG of the command and its output; escape sequences become colours and weights."""
    lines = [f"\x1b[1m$ uvtorch {command}\x1b[0m", *output.rstrip().splitlines()]
    height = LINE * len(lines) + 24
    rows = []
    for number, line in enumerate(lines):
        style, spans, column = "", [], 0
        for part in re.split(r"(\x1b\[[\d;]*m)", line):
            if part.startswith("\x1b"):
                codes = part[2:-1].split(";")
                colour = next((COLOURS[code] for code in codes if code in COLOURS), "")
                style = f' fill="{colour}"' * bool(colour) + ' font-weight="bold"' * ("1" in codes)
            elif part:
                x = 12 + WIDTH * column
                spans.append(f'<tspan x="{x:g}"{style}>{escape(part)}</tspan>')
                column += len(part)
        rows.append(f'<text y="{LINE * number + 26}">{"".join(spans)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{24 + WIDTH * 80:g}" height="{height}" '
        'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13.3" fill="#24292f" '
        'xml:space="preserve">\n'
        f'<rect width="100%" height="100%" rx="6" fill="#f6f8fa"/>\n{chr(10).join(rows)}\n</svg>\n'
    )


def main() -> int:
    """Write the pictures, or name those that are not current."""
    parser = argparse.ArgumentParser(description="Make the terminal pictures of the documents, or check them.")
    parser.add_argument("--write", action="store_true", help="write those that are not current")
    write = parser.parse_args().write
    code = 0
    for name, command in PICTURES.items():
        path, made = FOLDER / f"{name}.svg", picture(command, run(command))
        if not path.exists() or path.read_text(encoding="utf-8") != made:
            print(path.relative_to(ROOT), "written" if write else "is not current")
            if write:
                path.parent.mkdir(exist_ok=True)
                path.write_text(made, encoding="utf-8")
            else:
                code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
