"""What settings are called on disk: as JSON, and as a hash in rows and file names, the same in every version."""

import json
import math
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from pydantic.fields import FieldInfo

from segkit.settings.base import Named, Settings


def as_json(value: Any) -> Any:
    """Settings and other plain values as what JSON can hold; infinities and paths become text.

    A field that was `added_later` is left out at its default.
    """
    if isinstance(value, Settings):
        return {
            n: as_json(getattr(value, n)) for n, f in type(value).model_fields.items() if not _is_as_before(value, n, f)
        }
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def _is_as_before(settings: Settings, name: str, field: FieldInfo) -> bool:
    return Named(name, name, field).extra.get("added_later", False) and getattr(settings, name) == field.default


def fingerprint(*parts: Any) -> str:
    """16 hex digits that identify plain values and settings, the same in every process."""
    return sha256(json.dumps(as_json(parts), sort_keys=True).encode()).hexdigest()[:16]
