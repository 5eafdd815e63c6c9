"""Reading pages: connected components, each compared with the letters of a known face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Page = NDArray[np.uint8]
"""Grey values, 0 is black: (rows, columns)."""

_HEIGHT, _SCALE = 7, 3

# Five columns for each letter, the lowest bit on top.
_FACE = {
    "A": "7E1111117E", "B": "7F49494936", "C": "3E41414122", "D": "7F4141221C",
    "E": "7F49494941", "F": "7F09090901", "G": "3E4149497A", "H": "7F0808087F",
    "I": "00417F4100", "J": "2040413F01", "K": "7F08142241", "L": "7F40404040",
    "M": "7F020C027F", "N": "7F0408107F", "O": "3E4141413E", "P": "7F09090906",
    "Q": "3E4151215E", "R": "7F09192946", "S": "4649494931", "T": "01017F0101",
    "U": "3F4040403F", "V": "1F2040201F", "W": "3F4038403F", "X": "6314081463",
    "Y": "0708700807", "Z": "6151494543",
}  # fmt: skip


def render(text: str, noise: float = 0.0, seed: int = 0) -> Page:
    """A page with one line of letters and spaces, on dirty paper."""
    cells = [_glyph(letter) if letter != " " else np.zeros((_HEIGHT, 5), bool) for letter in text]
    line = np.concatenate([np.pad(cell, ((2, 2), (1, 1))) for cell in cells], axis=1)
    ink = np.kron(line, np.ones((_SCALE, _SCALE)))
    dirt = np.random.default_rng(seed).normal(0, noise * 255, ink.shape)
    return np.clip(235 - 205 * ink + dirt, 0, 255).astype(np.uint8)


def save(path: str | Path, page: Page) -> None:
    """Writes a portable grey map."""
    rows, columns = page.shape
    Path(path).write_bytes(b"P5\n%d %d\n255\n" % (columns, rows) + page.tobytes())


def load(path: str | Path) -> Page:
    """Reads a portable grey map."""
    _, size, _, pixels = Path(path).read_bytes().split(b"\n", 3)
    columns, rows = map(int, size.split())
    return np.frombuffer(pixels, np.uint8).reshape(rows, columns)


def read(page: Page) -> str:
    """The text of a page with one line."""
    text, end = "", None
    for left, right, letter in _letters(page < 128):
        if end is not None and left - end > 5 * _SCALE:
            text += " "
        text, end = text + letter, right
    return text


def _letters(ink: NDArray[np.bool_]) -> list[tuple[int, int, str]]:
    """Left and right edge of each letter, and which it is, from left to right."""
    labels = _components(ink)
    found = []
    for label in range(1, labels.max() + 1):
        rows, columns = np.nonzero(labels == label)
        if len(rows) >= 6 * _SCALE**2:
            box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
            found.append((columns.min(), columns.max(), _match(labels[box] == label)))
    return sorted(found)


def _components(ink: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The number of the connected piece that each black pixel belongs to. The lowest number of its
    neighbours spreads until nothing changes."""
    labels = np.where(ink, np.arange(1, ink.size + 1).reshape(ink.shape), 0)
    while True:
        around = np.lib.stride_tricks.sliding_window_view(np.pad(labels, 1), (3, 3))
        lowest = np.where(around > 0, around, labels.size + 1).min(axis=(2, 3))
        spread = np.where(ink, lowest, 0)
        if (spread == labels).all():
            return np.unique(labels, return_inverse=True)[1].reshape(ink.shape)
        labels = spread


def _match(piece: NDArray[np.bool_]) -> str:
    """The letter that differs least from a piece of the page."""
    rows = np.arange(_HEIGHT) * piece.shape[0] // _HEIGHT
    width = max(1, round(piece.shape[1] * _HEIGHT / piece.shape[0]))
    columns = np.arange(width) * piece.shape[1] // width
    half = max(1, piece.shape[0] // _HEIGHT) // 2
    small = piece[np.minimum(rows + half, piece.shape[0] - 1)][
        :, np.minimum(columns + half, piece.shape[1] - 1)
    ]
    return min(_FACE, key=lambda letter: _difference(small, letter))


def _difference(small: NDArray[np.bool_], letter: str) -> int:
    glyph = _glyph(letter)
    used = np.flatnonzero(glyph.any(axis=0))
    glyph = glyph[:, used[0] : used[-1] + 1]
    width = max(small.shape[1], glyph.shape[1])
    one, other = (np.pad(g, ((0, 0), (0, width - g.shape[1]))) for g in (small, glyph))
    return int((one != other).sum()) + 3 * abs(small.shape[1] - glyph.shape[1])


def _glyph(letter: str) -> NDArray[np.bool_]:
    columns = np.array(list(bytes.fromhex(_FACE[letter])))
    return (columns >> np.arange(_HEIGHT)[:, None]) & 1 == 1
