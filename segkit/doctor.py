"""What is installed, what is missing, and what does not fit together."""

import os
import platform
from importlib import metadata
from typing import Any

import desphere
import soundfile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import segkit


def examine() -> dict[str, Any]:
    """Versions, extras, GPU, decoders and conflicts, as plain values."""
    needs = _needs("segkit")
    extras = sorted(set(metadata.metadata("segkit").get_all("Provides-Extra") or []) - {"all"})
    return {
        "segkit": segkit.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "core": {r.name: _version(r.name) for r in needs if r.marker is None},
        "extras": {
            extra: {r.name: _version(r.name) for r in needs if r.marker and r.marker.evaluate({"extra": extra})}
            for extra in extras
        },
        "gpu": _gpu(),
        "decoders": _decoders(),
        "conflicts": _conflicts(),
    }


def _needs(package: str) -> list[Requirement]:
    return [Requirement(line) for line in metadata.requires(package) or []]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gpu() -> str | None:
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def _decoders() -> dict[str, bool | str]:
    """What can be read, by kind of file, and how fast where that depends."""
    known = soundfile.available_formats()
    kinds = {"wav": "WAV", "flac": "FLAC", "ogg, opus": "OGG", "mp3": "MP3", "SPHERE": "NIST"}
    slow = 'yes, about 16 times slower than with desphere-native: pip install "segkit[corpora]"'
    found: dict[str, bool | str] = {kind: name in known for kind, name in kinds.items()}
    found["SPHERE with shorten"] = "yes, desphere-native" if desphere.native_available() else slow
    found["m4a, mp4, webm ..."] = _version("av") is not None
    return found


def _conflicts() -> list[str]:
    """Requirements, of everything installed, that the installed versions do not meet."""
    environment = {"extra": ""}
    versions = {canonicalize_name(d.name): d.version for d in metadata.distributions()}
    conflicts = []
    for distribution in metadata.distributions():
        for line in distribution.requires or []:
            need = Requirement(line)
            if need.marker and not need.marker.evaluate(environment):
                continue
            found = versions.get(canonicalize_name(need.name))
            if found is None or not need.specifier.contains(found, prereleases=True):
                conflicts.append(f"{distribution.name} needs {need.name}{need.specifier}, found {found}")
    return sorted(set(conflicts))
