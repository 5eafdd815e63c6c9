"""Sound on disk and as features: what the three services that hear or speak share."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

RATE = 8000
"""Samples in a second."""
_FRAME, _STEP, _BANDS = 256, 80, 24


def save(path: str | Path, samples: Samples) -> None:
    """Writes 16-bit mono."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def load(path: str | Path) -> Samples:
    """Reads 16-bit mono."""
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767


def frames(samples: Samples) -> Samples:
    """Overlapping pieces of 32 ms, one each 10 ms: (frames, samples)."""
    padded = np.pad(samples, (0, max(0, _FRAME - len(samples))))
    return np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_STEP]


def log_mel(samples: Samples) -> Samples:
    """Logarithmic mel bands of each frame, which loudness does not change: (frames, bands)."""
    power = np.abs(np.fft.rfft(frames(samples) * np.hanning(_FRAME))) ** 2
    bands = np.log(power @ _mel_filters().T + 1e-8)
    return bands - bands.mean(axis=1, keepdims=True)


def is_loud(samples: Samples, share: float = 0.02) -> NDArray[np.bool_]:
    """Whether somebody speaks, for each frame: with that share of the highest energy at least."""
    energy = (frames(samples) ** 2).mean(axis=1)
    return energy > share * energy.max()


def seconds(frame: int) -> float:
    """When a frame begins."""
    return frame * _STEP / RATE


def _mel_filters() -> Samples:
    """Triangles that overlap by half, evenly spaced as we hear: (bands, frequencies)."""
    mel = np.linspace(_mel(150), _mel(RATE / 2), _BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequencies = np.fft.rfftfreq(_FRAME, 1 / RATE)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))
