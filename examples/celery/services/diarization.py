"""Who speaks when: the pitch of each voiced frame, grouped by k-means."""

from __future__ import annotations

import numpy as np

from .sound import RATE, Samples, frames, is_loud, seconds

Turn = tuple[float, float, int]
"""From, until (seconds), and the number of the speaker, in the order in which they begin."""


def diarize(samples: Samples, speakers: int = 2) -> list[Turn]:
    """The turns of a conversation."""
    loud = np.flatnonzero(is_loud(samples, share=0.2))
    groups = _k_means(np.log(_pitch(frames(samples)[loud])), speakers)
    turns: list[Turn] = []
    names: dict[int, int] = {}
    for frame, group in zip(loud.tolist(), _smooth(groups).tolist(), strict=True):
        speaker = names.setdefault(group, len(names))
        if turns and turns[-1][2] == speaker:
            turns[-1] = (turns[-1][0], seconds(frame + 1), speaker)
        else:
            turns.append((seconds(frame), seconds(frame + 1), speaker))
    return turns


def _pitch(pieces: Samples) -> Samples:
    """The strongest period of each frame, from its autocorrelation (Hz)."""
    spectrum = np.fft.rfft(pieces, 2 * pieces.shape[1])
    echo = np.fft.irfft(np.abs(spectrum) ** 2)[:, : pieces.shape[1]]
    shortest, longest = RATE // 320, RATE // 80
    return RATE / (shortest + echo[:, shortest:longest].argmax(axis=1))


def _k_means(values: Samples, groups: int) -> Samples:
    """The group of each value."""
    centres = np.quantile(values, np.linspace(0, 1, groups))
    while True:
        nearest = np.abs(values[:, None] - centres).argmin(axis=1)
        members = [values[nearest == group] for group in range(groups)]
        pairs = zip(members, centres, strict=True)
        moved = np.array([own.mean() if len(own) else centre for own, centre in pairs])
        if np.allclose(moved, centres):
            return nearest
        centres = moved


def _smooth(groups: Samples, width: int = 15) -> Samples:
    """What most of the frames around each say: no voice speaks for a hundredth of a second."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(groups, width // 2, "reflect"), width)
    return np.array([np.bincount(window).argmax() for window in around])
