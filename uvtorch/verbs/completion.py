"""`uvtorch torch completion SHELL`: uv's own completion script, and beside it uvtorch's verbs and options."""

from collections.abc import Iterator

import click

from uvtorch import uv
from uvtorch.argv import OURS, TORCH_VERBS
from uvtorch.errors import ProjectError
from uvtorch.session import Session
from uvtorch.steps.verb import Verb, torch

SHELLS = ("bash", "zsh", "fish", "powershell")

_BASH = """
_uvtorch() {
    local ours=
    case "${COMP_WORDS[*]:1:COMP_CWORD-1}" in
%s    esac
    COMPREPLY=()
    [[ "${COMP_WORDS[1]}" == torch && $COMP_CWORD -gt 1 ]] || _uv "$@"
    COMPREPLY+=($(compgen -W "$ours" -- "$2"))
}
complete -F _uvtorch -o nosort -o bashdefault -o default uvtorch 2>/dev/null || complete -F _uvtorch -o default uvtorch
"""
_ZSH = """
_uvtorch() {
    local -a ours
    case "$words[2,CURRENT-1]" in
%s    esac
    [[ $PREFIX == -* ]] || ours=(${ours:#-*})
    (( $#ours )) && compadd -- $ours
    [[ $words[2] == torch ]] && (( CURRENT > 2 )) || _uv "$@"
}

if [ "$funcstack[1]" = "_uvtorch" ]; then
    _uvtorch "$@"
else
    compdef _uvtorch uvtorch
fi
"""


def _rows(context: click.Context, backends: list[str]) -> Iterator[tuple[str, list[str]]]:
    yield "", ["torch"]
    yield "torch", [*TORCH_VERBS]
    arguments = {"use": ["auto", "none", *backends], "backends": backends, "completion": [*SHELLS]}
    for name in TORCH_VERBS:
        command = torch.get_command(context, name)
        options = [one for parameter in command.params for one in parameter.opts if one[:1] == "-"] if command else []
        yield f"torch {name}", [*options, *arguments.get(name, ())]
    for name, ours in OURS.items():
        yield name, [*ours]
        if "--torch-backend" in ours:
            yield f"{name} --torch-backend", ["auto", *backends]


def _written(shell: str, theirs: str, rows: list[tuple[str, list[str]]]) -> str:
    """uv's script with ours. Words hold letters, digits, dots and dashes alone."""
    if shell in ("bash", "zsh"):
        template, ours = (_BASH, 'ours="%s"') if shell == "bash" else (_ZSH, "ours=(%s)")
        # The longest first: behind more words than a row has, its options are still to be had.
        cases = [
            f'        "{path}"{"*" if path else ""}) {ours % " ".join(words)} ;;\n' for path, words in reversed(rows)
        ]
        return theirs.replace("#compdef uv\n", "#compdef uvtorch\n", 1) + template % "".join(cases)
    if shell == "fish":
        lines = ["", "complete -c uvtorch --wraps uv"]
        for path, words in rows:
            before = " ".join(["uvtorch", *path.split()]) + ("\\$" if path in ("", "torch") else "( |\\$)")
            condition = f"string match -qr '^{before}' -- (commandline -opc | string join ' ')"
            lines.append(f'complete -c uvtorch -n "{condition}" -f -a "{" ".join(words)}"')
        return "\n".join([theirs.rstrip("\n"), *lines, ""])
    cases = []
    for path, words in rows:
        values = [f"[CompletionResult]::new('{word}', '{word}', 'ParameterValue', '{word}')" for word in words]
        cases += [] if "--" in path else [f"        '{';'.join(['uv', *path.split()])}' {{ {'; '.join(values)} }}\n"]
    named = theirs.replace("-CommandName 'uv'", "-CommandName 'uvtorch'")
    return named.replace("switch ($command) {\n", "switch ($command) {\n" + "".join(cases), 1)


@click.command(
    cls=Verb,
    examples=(
        ("completion bash > ~/.uvtorch.bash", "For bash: `source ~/.uvtorch.bash` in ~/.bashrc"),
        ("completion fish > ~/.config/fish/completions/uvtorch.fish", "For fish"),
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell's completion script, uv's and uvtorch's."""
    session: Session = context.obj
    code, theirs, err = uv.ask(session.uv, ("generate-shell-completion", shell))
    if code:
        raise ProjectError(f"uv cannot tell how {shell} completes it: {err.strip().splitlines()[-1:] or code}")
    backends = sorted({one.name for one in session.catalog.builds})
    click.echo(_written(shell, theirs, [*_rows(context, backends)]), nl=False)
