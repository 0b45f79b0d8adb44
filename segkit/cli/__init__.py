"""The command line. Heavy imports stay inside the commands, so that `segkit --help` is instant."""

import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from segkit.cli.align import align
from segkit.cli.console import PLAIN, err
from segkit.cli.corpora import corpora
from segkit.cli.doctor import doctor
from segkit.cli.extract import extract
from segkit.cli.hydrate import hydrate
from segkit.cli.inspect import inspect
from segkit.cli.merge import merge
from segkit.cli.publish import publish
from segkit.cli.report import report
from segkit.cli.settings import settings
from segkit.cli.stats import stats
from segkit.errors import SegkitError, SegkitWarning

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Segments of real two-party conversations for full-duplex speech models (arXiv 2606.11167).",
    epilog="Add --debug to any command for the traceback of an error.",
)
COMMANDS: list[Callable[..., None]] = [extract, align, publish, hydrate, merge]
COMMANDS += [settings, corpora, stats, inspect, report, doctor]
for command in COMMANDS:
    app.command(no_args_is_help=command not in (settings, corpora, doctor))(command)


def _note(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
    """Print a warning of segkit's own as a note; others as Python does."""
    if issubclass(category, SegkitWarning):
        err.print(f"Note: {message}", style="yellow", **PLAIN)
    else:
        _print_warning(message, category, *rest, **more)


_print_warning = warnings.showwarning


def main() -> NoReturn:
    """Run the command line: errors of segkit's own become a message and an exit code."""
    warnings.showwarning = _note
    warnings.simplefilter("always", SegkitWarning)  # a note stays a note under python -W error
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app(arguments)
    except KeyboardInterrupt:
        err.print("Interrupted. What was finished is kept: the same command goes on from there (align: with --resume).")
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        known = isinstance(error, SegkitError)
        text = str(error) if known else f"{type(error).__name__}: {error} (--debug shows where)"
        err.print("Error:", style="bold red", end=" ")
        err.print(text, **PLAIN)
        sys.exit(error.exit_code if isinstance(error, SegkitError) else 1)
    sys.exit(0)
