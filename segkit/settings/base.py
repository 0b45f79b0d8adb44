"""How settings work: one kind of model for all of them, dotted names, presets, and files.

A group of settings is a frozen pydantic model. Each field is declared by `setting` with its meaning, source, and range,
from which error messages, `segkit settings`, and docs/settings.md are made.

    >>> class Gap(Settings):
    ...     max_gap_s: float = setting(0.4, "longest gap", source="paper 3.3", ge=0)
    >>> Gap().changed({"max_gap_s": "0.5"}).max_gap_s
    0.5
    >>> Gap().changed({"max_gap_s": -1})
    Traceback (most recent call last):
    segkit.errors.UsageError: Setting 'max_gap_s' got -1. Expected a number, 0 or more (seconds).
"""

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from segkit.errors import UsageError, nearest

UNITS = {"_s": "seconds", "_hz": "Hz", "_db": "dB"}
"""Units by the end of a name."""


def setting(
    default: Any,
    about: str,
    source: str = "segkit",
    added_later: bool = False,
    resumable: bool = False,
    **limits: float,
) -> Any:
    """A field of a `Settings`.

    Args:
        default: its value unless set.
        about: its meaning, as a phrase.
        source: who says so: a section of arXiv 2606.11167 ("paper 3.3"), another source, or segkit's own choice.
        added_later: the identity of settings is on users' disks; at its default, this field is not a part of it.
        resumable: may change when a training run is resumed: it decides memory, speed and what is looked at, and of
            what is sampled and learnt no more than the rounding.
        **limits: `ge`, `gt`, `le` or `lt`, as in pydantic.
    """
    extra = {"source": source, "added_later": added_later, "resumable": resumable}
    return Field(default, description=about, json_schema_extra=extra, **limits)  # type: ignore[call-overload]


def separated(value: Any) -> Any:
    """Text as a list of its parts; anything else as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Separated = BeforeValidator(separated)
"""For fields with several values, which text separates by commas."""


class Unfit(ValueError):
    """A value that does not fit others, for validators of several fields."""

    def __init__(self, name: str, value: Any, expected: str) -> None:
        super().__init__(f"Setting {name!r} got {value!r}. Expected {expected}.")
        self.name, self.value, self.expected = name, value, expected


class Settings(BaseModel):
    """A group of settings: frozen, checked, compared by value.

    Raises:
        pydantic.ValidationError: a value of another type or out of range, when one is made directly; a `UsageError`
            when it comes from a user (`changed`, `read`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    presets: ClassVar[str] = ""
    """The folder of its presets, beside this file."""

    @field_validator("*", mode="before")
    @classmethod
    def _empty_in_yaml_is_empty_text(cls, value: Any, info: ValidationInfo) -> Any:
        """`url:` without a value is read as None."""
        is_text = value is None and info.field_name and cls.model_fields[info.field_name].annotation is str
        return "" if is_text else value

    @field_validator("*")
    @classmethod
    def _is_a_number(cls, value: Any) -> Any:
        if isinstance(value, float) and math.isnan(value):
            raise ValueError("a number, not NaN")
        return value

    @classmethod
    def fields(cls, prefix: str = "") -> Iterator["Named"]:
        """Every single setting with its dotted name, in the order of declaration."""
        for name, field in cls.model_fields.items():
            if group := group_of(field):
                yield from group.fields(f"{prefix}{name}.")
            else:
                yield Named(prefix + name, name, field)

    @classmethod
    def names(cls) -> list[str]:
        """The dotted names of all settings."""
        return [each.name for each in cls.fields()]

    def value(self, name: str) -> Any:
        """The value of a setting by its dotted name."""
        found: Any = self
        for part in name.split("."):
            found = getattr(found, part)
        return found

    def changed(self, changes: Mapping[str, Any], prefix: str = "") -> Self:
        """A copy with other values, such as `{"pause.tau_min_s": 3}`; text is read as on a command line.

        Args:
            changes: by dotted name, or nested as YAML has them.
            prefix: what users write before the names.

        Raises:
            UsageError: an unknown name, or a value of another type or out of range.
        """
        tree = self.model_dump()
        for name, value in flat(changes).items():
            *above, last = _known(name, self.names(), prefix).split(".")
            node = tree
            for part in above:
                node = node[part]
            node[last] = value
        return self.read(tree, prefix)

    @classmethod
    def read(cls, tree: Mapping[str, Any], prefix: str = "") -> Self:
        """Settings from nested plain values; what they do not name has its default.

        Raises:
            UsageError: an unknown name, or a value of another type or out of range.
        """
        for name in flat(tree):
            _known(name, cls.names(), prefix)
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise UsageError(_explained(cls, error, flat(tree), prefix)) from None

    @classmethod
    def preset(cls, name: str = "paper") -> Self:
        """The settings of a preset; "paper" is the defaults.

        Raises:
            UsageError: there is none of that name.
        """
        return cls().changed(cls.preset_changes(name))

    @classmethod
    def preset_names(cls) -> list[str]:
        """What `preset` takes."""
        folder = resources.files(__package__).joinpath("presets", cls.presets)
        return ["paper", *sorted(Path(each.name).stem for each in folder.iterdir())]

    @classmethod
    def preset_changes(cls, name: str) -> dict[str, Any]:
        """What a preset changes, by dotted name.

        Raises:
            UsageError: there is none of that name.
        """
        if name not in cls.preset_names():
            raise UsageError(f"Unknown preset {name!r}. {nearest(name, cls.preset_names())}")
        if name == "paper":
            return {}
        text = resources.files(__package__).joinpath("presets", cls.presets, f"{name}.yaml").read_text(encoding="utf-8")
        return flat(yaml.safe_load(text))


class Named(NamedTuple):
    """A single setting: its dotted name, the last part of it, and what pydantic knows of it."""

    name: str
    last: str
    field: FieldInfo

    @property
    def extra(self) -> dict[str, Any]:
        """What `setting` was given beside the meaning and the limits."""
        return dict(self.field.json_schema_extra or {})  # type: ignore[arg-type]

    @property
    def unit(self) -> str:
        """Its unit; empty for a number without one, a choice, or text."""
        return next((unit for end, unit in UNITS.items() if self.last.endswith(end)), "")

    @property
    def expected(self) -> str:
        """What it can be, in words.

        >>> class Gap(Settings):
        ...     max_gap_s: float = setting(0.4, "longest gap", gt=0, lt=60)
        ...     seed: int = setting(0, "of chance", ge=0)
        >>> [each.expected for each in Gap.fields()]
        ['a number, more than 0 and less than 60 (seconds)', 'a whole number, 0 or more']
        """
        if self._kind is tuple:
            parts = self._arguments
            several = " and ".join(_either(self.choices).rsplit(" or ", 1)) if self.choices else f"{len(parts)} numbers"
            return f"{several}, separated by commas"
        if self.choices:
            return _either(self.choices)
        if self._kind is bool:
            return "true or false"
        if self._kind not in (int, float):
            return "text"
        what = "a whole number" if self._kind is int else "a number"
        words = [what, *self._limits()]
        unit = f" ({self.unit})" if self.unit else ""
        return ", ".join(words) + unit + (", or null" if self._may_be_none else "")

    @property
    def choices(self) -> list[str]:
        """What there is to choose from; empty for numbers and text."""
        if self._kind is Literal:
            return list(map(str, self._arguments))
        item = self._arguments[0] if self._kind is tuple else None
        return list(map(str, item)) if isinstance(item, type) and issubclass(item, StrEnum) else []

    @property
    def _kind(self) -> Any:
        kind = self.field.annotation
        plain = next(each for each in (*get_args(kind), kind) if each is not None) if self._may_be_none else kind
        return get_origin(plain) or plain

    @property
    def _may_be_none(self) -> bool:
        return type(None) in get_args(self.field.annotation)

    @property
    def _arguments(self) -> tuple[Any, ...]:
        return get_args(self.field.annotation)

    def _limits(self) -> Iterator[str]:
        found = {
            name: limit
            for each in self.field.metadata
            for name in ("ge", "gt", "le", "lt", "multiple_of")
            if (limit := getattr(each, name, None)) is not None
        }
        if "ge" in found and "le" in found:
            yield f"{found.pop('ge'):g} to {found.pop('le'):g}"
        limits = {"ge": "{:g} or more", "gt": "more than {:g}", "le": "{:g} or less", "lt": "less than {:g}"}
        parts = [
            words.format(found[name]) for name, words in limits.items() if math.isfinite(found.get(name, math.inf))
        ]
        yield from [" and ".join(parts)] if parts else []
        yield from ["finite"] if found.get("lt") == math.inf else []
        yield from [f"a multiple of {found['multiple_of']:g}"] if "multiple_of" in found else []


def group_of(field: FieldInfo) -> type[Settings] | None:
    """The group that a field holds, if it is not a single setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as {"dotted.name": value}.

    >>> flat({"pause": {"tau_min_s": 3}, "timeline.max_pause_s": 1})
    {'pause.tau_min_s': 3, 'timeline.max_pause_s': 1}
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, by dotted name.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{str(path)!r} cannot be read as YAML: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{str(path)!r} does not hold settings. Expected YAML as `segkit settings extract` prints it.")
    return flat(found)


def unknown_setting(name: str, known: list[str]) -> UsageError:
    """The error for a name that does not exist: with the nearest one, not with all of them."""
    same_end = [each for each in known if each.rpartition(".")[2] == name.rpartition(".")[2]]
    close = (same_end or get_close_matches(name, known, n=1, cutoff=0.4))[:1]
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return UsageError(f"Unknown setting {name!r}. {hint}`segkit settings` lists all.")


def _known(name: str, names: list[str], prefix: str) -> str:
    if name not in names:
        raise unknown_setting(prefix + name, [prefix + each for each in names])
    return name


def _explained(kind: type[Settings], error: ValidationError, given: Mapping[str, Any], prefix: str) -> str:
    """The first thing that is wrong, with the full name, what was found, and what was expected."""
    first = error.errors()[0]
    place = ".".join(part for part in first["loc"] if isinstance(part, str))
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, Unfit):
        name = f"{place}.{cause.name}".lstrip(".")
        return f"Setting {prefix + name!r} got {cause.value!r}. Expected {cause.expected}."
    named = next((each for each in kind.fields() if place == each.name or place.startswith(f"{each.name}.")), None)
    if named is None:
        return f"Setting {prefix + place!r} got {first['input']!r}. {first['msg']}."
    expected = str(cause) if cause else named.expected
    value = given.get(named.name, first["input"])
    hint = ""
    if isinstance(value, str) and (close := get_close_matches(value, named.choices, n=1, cutoff=0.5)):
        hint = f" Did you mean {close[0]!r}?"
    return f"Setting {prefix + named.name!r} got {value!r}. Expected {expected}.{hint}"


def _either(choices: list[Any]) -> str:
    words = [str(each) or '""' for each in choices]
    return f"{', '.join(words[:-1])} or {words[-1]}"
