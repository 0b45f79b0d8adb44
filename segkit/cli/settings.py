"""`segkit settings`: everything that can be set, as YAML, or as the page docs/settings.md."""

from typing import TYPE_CHECKING, Annotated

import typer

from segkit.errors import UsageError, nearest

if TYPE_CHECKING:
    from segkit.settings import Settings


def settings(
    of: Annotated[
        str | None, typer.Argument(help="extract, align, or a corpus; all of them unless given.", show_default=False)
    ] = None,
    preset: Annotated[str, typer.Option(help="Show the values of a preset of extract or align.")] = "paper",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference page instead.")] = False,
) -> None:
    """Print settings with their meaning, range and source, as YAML that --config reads.

    Example: segkit settings align --preset nano > mine.yaml
    """
    from segkit.settings.text import as_yaml

    kinds = _kinds()
    if of is not None and of not in kinds:
        raise UsageError(f"Unknown settings {of!r}. {nearest(of, kinds)}")
    if markdown:
        return typer.echo(page(), nl=False)
    for name in [of] if of else kinds:
        kind = kinds[name]
        if of is None:
            typer.echo(f"# segkit {name}\n" if kind.presets else f"# the corpus {name}\n")
        if kind.presets:
            typer.echo(as_yaml(kind.preset(preset)))
        else:
            typer.echo(f"corpus:\n{as_yaml(kind(), 1, sources=False)}")


def _kinds() -> "dict[str, type[Settings]]":
    """All settings by what they are of; corpora that have any."""
    from segkit import corpora
    from segkit.settings import AlignSettings, ExtractionSettings

    kinds: dict[str, type[Settings]] = {"extract": ExtractionSettings, "align": AlignSettings}
    options = {name: corpora.get(name).Options for name in corpora.names()}
    return kinds | {name: kind for name, kind in options.items() if kind.names()}


def page() -> str:
    """The reference: a table for each kind of settings."""
    from segkit.settings.text import as_table

    parts = [
        "# Settings",
        "Made by `segkit settings --markdown` from the declarations in [`segkit/settings/`](../segkit/settings) and of "
        "the adapters in [`segkit/corpora/`](../segkit/corpora).\n"
        "`--set NAME=VALUE` sets one, `--config FILE.yaml` many; `segkit settings extract` prints such a file.\n"
        '"Paper" is [arXiv 2606.11167](https://arxiv.org/abs/2606.11167); "segkit" marks a choice where it is silent.',
    ]
    for name, kind in _kinds().items():
        if kind.presets:
            presets = f"Presets (`--preset`): {', '.join(kind.preset_names())}."
            parts += [f"## `segkit {name}`", presets, as_table(kind)]
        else:
            parts += [f"## The corpus `{name}`", as_table(kind, "corpus.", sources=False)]
    return "\n\n".join(parts) + "\n"
