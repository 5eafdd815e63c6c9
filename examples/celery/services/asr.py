"""Speech recognition: mel bands of each word, compared with those of known words by dynamic time
warping."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .sound import RATE, Samples, is_loud, log_mel, seconds
from .tts import speak

VOCABULARY = ("the", "lock", "goes", "on", "when", "work", "ends", "one", "task", "each", "time")


def transcribe(samples: Samples, vocabulary: Iterable[str] = VOCABULARY) -> str:
    """What is said in a recording."""
    known = {word: log_mel(speak(word, pitch=150)) for word in vocabulary}
    return " ".join(_nearest(log_mel(word), known) for word in _words(samples))


def _words(samples: Samples) -> list[Samples]:
    """The pieces between pauses."""
    loud = np.concatenate([[False], is_loud(samples), [False]])
    edges = np.flatnonzero(loud[1:] != loud[:-1])
    pieces = edges.reshape(-1, 2)
    return [
        samples[int(seconds(a) * RATE) : int(seconds(b) * RATE)] for a, b in pieces if b - a > 4
    ]


def _nearest(word: Samples, known: dict[str, Samples]) -> str:
    return min(known, key=lambda name: _distance(word, known[name]))


def _distance(one: Samples, other: Samples) -> float:
    """Of the cheapest way through both, in relation to their lengths."""
    cost = np.linalg.norm(one[:, None] - other[None], axis=2)
    total = np.full((len(one) + 1, len(other) + 1), np.inf)
    total[0, 0] = 0
    for i in range(len(one)):
        for j in range(len(other)):
            before = min(total[i, j], total[i, j + 1], total[i + 1, j])
            total[i + 1, j + 1] = cost[i, j] + before
    return float(total[-1, -1] / (len(one) + len(other)))
