"""Voice activity with any segmentation model of pyannote.audio; needs the extra `diarize`.

The model hears windows of a few seconds and says for each frame of 17 ms which of its speakers speak; speech is where
anybody does. Windows overlap by half and are averaged. Checkpoints of pyannote are pickles: they are read without
executing them, which pyannote's own loader does not do.

Without a name, the model is the one inside whisperx's wheel (Bredin and Laurent 2021, arXiv 2104.04045), offline.
"""

import importlib.util
import pkgutil
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import torch

from segkit.errors import MissingExtraError, UsageError, one_line
from segkit.schemas import Intervals
from segkit.segmenters.decision import FloatArray, speech_intervals
from segkit.settings import VadSettings

if TYPE_CHECKING:
    from pyannote.audio import Model

RATE_HZ = 16_000
OVERLAP = 0.5
"""Share of a window that the next one covers again."""

PLAIN_CLASSES = (
    *("builtins.dict", "builtins.int", "builtins.list", "collections.defaultdict", "typing.Any"),
    *("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata", "omegaconf.listconfig.ListConfig"),
    *("omegaconf.nodes.AnyNode", "pyannote.audio.core.model.Introspection", "pyannote.audio.core.task.Problem"),
    *("pyannote.audio.core.task.Resolution", "pyannote.audio.core.task.Specifications"),
    "torch.torch_version.TorchVersion",
)
"""What the checkpoints hold beside tensors; none of it does anything when it is made."""


class Pyannote:
    """A `VoiceActivityDetector`; a track is in memory as a whole."""

    def __init__(self, settings: VadSettings, device: str = "cpu") -> None:
        self.settings = settings
        self.device = torch.device(device)
        self.model = load_model(settings.model)

    def block_samples(self, rate_hz: int) -> int:
        """Length of all but the last block of each stream."""
        return 10 * rate_hz

    def detect(self, streams: Sequence[Iterator[FloatArray]], rate_hz: int) -> list[list[Intervals]]:
        """Speech per stream and channel."""
        return [self._detect(list(stream), rate_hz) for stream in streams]

    def _detect(self, blocks: list[FloatArray], rate_hz: int) -> list[Intervals]:
        return [self._speech(track, rate_hz) for track in np.concatenate(blocks, axis=1)] if blocks else []

    def _speech(self, track: FloatArray, rate_hz: int) -> Intervals:
        audio = soxr.resample(track, rate_hz, RATE_HZ)
        if not len(audio):
            return np.zeros((0, 2))
        scores, frame_s, lag_s = frame_scores(self.model, audio, self.device)
        frame = round(frame_s * RATE_HZ)
        found = speech_intervals(scores.max(axis=1), len(scores) * frame, frame, RATE_HZ, self.settings)
        return np.clip(found + lag_s, 0, len(track) / rate_hz)


def frame_scores(model: Any, audio: FloatArray, device: torch.device) -> tuple[FloatArray, float, float]:
    """Activity of each of the model's speakers in a recording, (samples,) at 16 kHz.

    Speakers are those of the windows, in any order, so only their maximum and their sum mean something over a
    whole recording.

    Returns:
        Scores of shape (frames, speakers) in [0, 1], sorted from the most to the least active speaker; the step of
        the frames; how much the middle of a frame lies after the middle of its step, both in seconds.
    """
    from pyannote.audio import Inference

    window_s = model.specifications.duration
    inference = Inference(
        model,
        step=window_s * (1 - OVERLAP),
        pre_aggregation_hook=lambda scores: -np.sort(-scores, axis=-1),
        device=device,
    )
    with warnings.catch_warnings(action="ignore"):
        found: Any = inference({"waveform": torch.from_numpy(audio)[None], "sample_rate": RATE_HZ})
    frames = found.sliding_window
    return np.nan_to_num(found.data).astype(np.float32), frames.step, (frames.duration - frames.step) / 2


@cache
def load_model(name: str = "") -> "Model":
    """A segmentation model by the path of its checkpoint or its id on the Hub; without a name, whisperx's.

    Raises:
        MissingExtraError: pyannote.audio is not installed, or whisperx is wanted and is not.
        UsageError: there is no such model, or it is of another kind.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # it misses decoders that are not used here
            import pyannote.audio  # noqa: F401
    except ImportError:
        raise MissingExtraError("--vad pyannote", "pyannote.audio", "diarize") from None
    path = _checkpoint(name)
    with torch.serialization.safe_globals([pkgutil.resolve_name(each) for each in PLAIN_CLASSES]):
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            architecture = checkpoint["pyannote.audio"]["architecture"]
        except Exception as error:  # of many kinds
            raise UsageError(f"{path.name} of {name!r} is not a checkpoint of pyannote.audio: {error!r:.200}") from None
    if not architecture["module"].startswith("pyannote.audio.models.segmentation."):
        raise UsageError(f"{name!r} is a {architecture['module']}. Expected a segmentation model of pyannote.audio.")
    model: Model = getattr(import_module(architecture["module"]), architecture["class"])(
        **checkpoint["hyper_parameters"]
    )
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"], strict=False)  # some carry a loss
    return model.eval()


def _checkpoint(name: str) -> Path:
    if not name:
        whisperx = importlib.util.find_spec("whisperx")
        if whisperx is None or whisperx.origin is None:
            raise MissingExtraError("--vad pyannote without vad.model", "whisperx", "asr")
        return Path(whisperx.origin).with_name("assets") / "pytorch_model.bin"
    if Path(name).exists():
        return Path(name)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(name, "pytorch_model.bin"))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UsageError(
            f"Setting 'vad.model' got {name!r}: no such file, and nothing from the Hub ({one_line(error)})."
        ) from None
