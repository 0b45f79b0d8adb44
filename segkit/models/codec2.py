"""Codec2 at 700 bit/s as the audio codec of a small Moshi: Mimi's 12.5 Hz, and no learned weights.

Codec2 (David Rowe, https://github.com/drowe67/codec2) describes every 40 ms of speech at 8 kHz by 28 bits:
two stages of 9 bits for the spectrum, 4 bits for the energy, 6 bits for voicing and pitch. Two such frames
make one of 80 ms with seven codebooks of 256 entries:

    codebook  0             1          2          3          4          5                6
    bits      energies 4+4  stage 1a   stage 1b   stage 2a   stage 2b   pitch a, rest    pitch b, rest

a and b are the two frames; of the 9 bits of a stage the upper 8 make its codebook, and the lowest one goes
to the rest. Speech comes back about 30 ms late, the codec's own delay.

The library's noise generator is one for the whole process, and nothing resets it: so each row is decoded
by a private, fresh copy of the library, and the audio of a code depends on nothing but the code.
"""

import _ctypes
import ctypes
import shutil
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from tempfile import mkdtemp
from weakref import finalize

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segkit.errors import MissingExtraError, UsageError

CODEC2 = "codec2-700c"
MODE_700C = 8  # CODEC2_MODE_700C of codec2.h
SAMPLES, BITS = 320, 28  # of a frame of Codec2
CODEBOOKS = 7

# Bits of a frame in the order of the bitstream: stage 1 (0-8), stage 2 (9-17), energy (18-21), pitch (22-27).
STAGE_1, STAGE_2, ENERGY, PITCH = np.arange(9), np.arange(9, 18), np.arange(18, 22), np.arange(22, 28)
A, B = 0, BITS
ORDER = np.concatenate(
    [
        *(ENERGY + A, ENERGY + B),
        *(STAGE_1[:8] + A, STAGE_1[:8] + B, STAGE_2[:8] + A, STAGE_2[:8] + B),
        *(PITCH + A, STAGE_1[8:] + A, STAGE_2[8:] + A),
        *(PITCH + B, STAGE_1[8:] + B, STAGE_2[8:] + B),
    ]
)
"""Where each bit of the seven codebooks lies in the bits of two frames."""


class Codec2(nn.Module):
    """Encoder and decoder with the interface of `moshi.models.compression.MimiModel`, on the CPU.

    Raises:
        MissingExtraError: pycodec2, whose library does the work, is not installed.
    """

    sample_rate = 8000
    frame_size = 2 * SAMPLES

    def __init__(self) -> None:
        super().__init__()
        folder = mkdtemp(prefix="segkit-codec2-")
        finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._library = shutil.copy(_library(), folder)

    def encode(self, audio: Tensor) -> Tensor:
        """Audio, (B, 1, T * frame_size) in [-1, 1] -> codes, (B, K, T)."""
        pcm = np.rint(audio[:, 0].clamp(-1, 1).cpu().numpy() * 32767).astype(np.int16)
        return torch.from_numpy(np.stack([pack(self._encode(row)) for row in pcm])).to(audio.device)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes, (B, K, T) -> audio, (B, 1, T * frame_size)."""
        pcm = np.stack([self._decode(unpack(row)) for row in codes.cpu().numpy()])
        return torch.from_numpy(pcm.astype(np.float32) / 32768)[:, None].to(codes.device)

    def _encode(self, pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
        """Samples -> frames of 4 bytes, (n, 4)."""
        frames = np.zeros((len(pcm) // SAMPLES, 4), np.uint8)
        with _Instance(self._library) as (library, state):
            blocks = np.ascontiguousarray(pcm).reshape(len(frames), SAMPLES)
            for frame, samples in zip(frames, blocks, strict=True):
                library.codec2_encode(state, frame.ctypes.data, samples.ctypes.data)
        return frames

    def _decode(self, frames: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Frames of 4 bytes, (n, 4) -> samples."""
        pcm = np.zeros((len(frames), SAMPLES), np.int16)
        with _Instance(self._library) as (library, state):
            for samples, frame in zip(pcm, frames, strict=True):
                library.codec2_decode(state, samples.ctypes.data, frame.ctypes.data)
        return pcm.reshape(-1)


class _Instance:
    """A fresh copy of the library with a codec in it, (library, state); it leaves the process on exit."""

    def __init__(self, path: str) -> None:
        try:
            self.library = ctypes.CDLL(path)
        except OSError as error:
            raise UsageError(
                f"libcodec2 could not be loaded from a temporary folder ({error}). Set TMPDIR to a folder from which "
                "programs may run."
            ) from None
        pointer, none = ctypes.c_void_p, None
        self.library.codec2_create.restype = pointer
        self.library.codec2_create.argtypes = [ctypes.c_int]
        self.library.codec2_destroy.argtypes, self.library.codec2_destroy.restype = [pointer], none
        for function in (self.library.codec2_encode, self.library.codec2_decode):
            function.argtypes, function.restype = [pointer, pointer, pointer], none

    def __enter__(self) -> tuple[ctypes.CDLL, int]:
        self.state = self.library.codec2_create(MODE_700C)
        return self.library, self.state

    def __exit__(self, *_: object) -> None:
        self.library.codec2_destroy(self.state)
        _ctypes.dlclose(self.library._handle)


def _library() -> Path:
    """libcodec2 inside the wheel of pycodec2."""
    try:
        inside = [Path(str(file.locate())) for file in files("pycodec2") or [] if file.name.startswith("libcodec2")]
    except PackageNotFoundError:
        raise MissingExtraError("The policy nano", "pycodec2", "train") from None
    if not inside:
        raise UsageError("pycodec2 is installed without libcodec2 inside. Reinstall it from its wheel.")
    return inside[0]


def pack(frames: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Frames of Codec2, (2 T, 4) bytes -> codes, (K, T)."""
    bits = np.unpackbits(frames, axis=1)[:, :BITS].reshape(-1, 2 * BITS)
    return np.packbits(bits[:, ORDER], axis=1).astype(np.int64).T


def unpack(codes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The inverse of `pack`."""
    bits = np.zeros((codes.shape[1], 2 * BITS), np.uint8)
    bits[:, ORDER] = np.unpackbits(np.ascontiguousarray(codes.T, dtype=np.uint8), axis=1)
    return np.packbits(bits.reshape(-1, BITS), axis=1)
