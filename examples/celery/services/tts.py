"""Text to speech: additive synthesis. Each letter is a pair of formants that shape the harmonics of
a voice."""

from __future__ import annotations

import numpy as np

from .sound import RATE, Samples

_LETTER, _PAUSE = 0.09, 0.12


def speak(text: str, pitch: float = 110.0) -> Samples:
    """Says letters and spaces with a voice of that pitch (Hz)."""
    words = [_word(word, pitch) for word in text.lower().split()]
    pause = np.zeros(int(_PAUSE * RATE))
    return np.concatenate([piece for word in words for piece in (pause, word)] + [pause])


def _word(word: str, pitch: float) -> Samples:
    return np.concatenate([_letter(letter, pitch) for letter in word])


def _letter(letter: str, pitch: float) -> Samples:
    time = np.arange(int(_LETTER * RATE)) / RATE
    first, second = _formants(letter)
    harmonics = np.arange(pitch, RATE / 2, pitch)
    loudness = _peak(harmonics, first, 90) + 0.7 * _peak(harmonics, second, 140) + 0.01
    tones = loudness[:, None] * np.sin(2 * np.pi * harmonics[:, None] * time)
    fade = np.minimum(1, 40 * np.minimum(time, time[::-1]) / _LETTER / 4)
    sound = tones.sum(axis=0) * fade
    return 0.5 * sound / np.abs(sound).max()


def _formants(letter: str) -> tuple[float, float]:
    row, column = divmod(max(0, ord(letter) - ord("a")), 6)
    return 280.0 + 110 * column, 1300.0 + 480 * row


def _peak(frequency: Samples, centre: float, width: float) -> Samples:
    return np.exp(-0.5 * ((frequency - centre) / width) ** 2)
