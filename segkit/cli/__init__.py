"""The command line. Heavy imports stay inside the commands, so that `segkit --help` is instant."""

import sys
from typing import NoReturn

import typer

from segkit.cli.align import align
from segkit.cli.console import PLAIN, err
from segkit.cli.extract import extract
from segkit.cli.look import corpora, doctor, inspect, report, stats
from segkit.cli.share import hydrate, publish
from segkit.errors import SegkitError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Segments of real two-party conversations for full-duplex speech models (arXiv 2606.11167).",
    epilog="Add --debug to any command for the traceback of an error.",
)
app.command(no_args_is_help=True)(extract)
app.command(no_args_is_help=True)(align)
app.command(no_args_is_help=True)(publish)
app.command(no_args_is_help=True)(hydrate)
for command in (corpora, stats, inspect, report, doctor):
    app.command()(command)


def main() -> NoReturn:
    """Run the command line: errors of segkit's own become a message and an exit code."""
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
