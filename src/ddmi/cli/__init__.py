"""The command line: parses, calls the library, prints results to standard output and everything else to standard error.

Exit status: 0 done, 1 the work failed, 2 the user must change something, 130 interrupted (Ctrl-C). An error is one
line; DDMI_TRACEBACK=1 shows where it came from. Nothing heavy is imported before a command needs it, so that help is
there at once.

`options.py` the options that several commands share, `reading.py` what they mean; `configurations.py`, `training.py`,
`drawing.py`, `exploring.py` and `evaluating.py` the commands; `measuring.py` the work of `evaluate`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ddmi import __version__
from ddmi.base.errors import unknown
from ddmi.base.interruption import breaking
from ddmi.base.terminal import complain, failed, say, talking
from ddmi.cli.completing import complete
from ddmi.cli.configurations import models, presets, show
from ddmi.cli.drawing import interpolate, reconstruct, sample
from ddmi.cli.evaluating import demo, evaluate, report
from ddmi.cli.exploring import app as explore
from ddmi.cli.exploring import info
from ddmi.cli.options import flat
from ddmi.cli.training import prepare, train, train_classifier

COMMANDS = (
    presets, models, show, train, prepare, train_classifier, sample, complete, reconstruct, interpolate, explore, info,
    evaluate, report, demo,
)  # fmt: skip
"""In the order of the help; a command is called as its function."""
GOES_ON = {
    "train": "the same command with --resume goes on",
    **dict.fromkeys(("prepare", "train-classifier", "evaluate", "report", "demo"), "the same command goes on"),
}
"""What to do after an interruption; the others start again."""


class _Commands(TyperGroup):
    """A group that answers a misspelt command with the nearest one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise unknown("command", args[0], self.commands)
        return super().resolve_command(ctx, args)


def _version(asked: bool) -> bool:
    if asked:
        say(f"ddmi {__version__}")
        raise typer.Exit()
    return asked


app = typer.Typer(
    cls=_Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in COMMANDS:
    app.command()(flat(_command))


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Generative models of continuous signals: images, shapes, and whatever else is a function of coordinates."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (that of the process by default; an empty one asks for help); returns the exit status."""
    command = typer.main.get_command(app)
    if "_DDMI_COMPLETE" in os.environ:  # a shell asks what may come next
        command.main([], prog_name="ddmi")
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    interrupted = f"interrupted; {GOES_ON.get(given[0], 'the same command starts again')}"
    with talking(), breaking(lambda: complain(interrupted)):
        try:
            with command.make_context("ddmi", given) as context:
                command.invoke(context)
            sys.stdout.flush()
        except typer.Exit as done:
            return done.exit_code
        except BrokenPipeError:  # the reader of a pipe has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (Exception, KeyboardInterrupt) as error:
            return failed(error, interrupted)
    return 0
