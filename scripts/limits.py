#!/usr/bin/env python3
"""Fails if a source file is too long to be read in one go.

usage: scripts/limits.py [FOLDER]     without an argument: this repository

Counts the lines above the tests: a Rust file counts up to its `#[cfg(test)] mod … {`, a file that
holds nothing but tests does not count. Files that come near the limit are named and do no harm.
"""

import os
import re
import sys
from pathlib import Path

NOTE, LIMIT = 400, 600
SOURCES = {".rs", ".py", ".lua", ".sql"}
TEST_FOLDERS = {"tests", "benches"}
# A `mod tests;` or an import for tests only is one line among the others, wherever it stands.
INLINE_TESTS = re.compile(r"^#\[cfg\(test\)\]\n(?:#\[.*\n)*mod \w+ \{", re.MULTILINE)


def main(arguments: list[str]) -> int:
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    lengths = sorted(((lines_above_tests(path), path) for path in sources(root)), reverse=True)
    for lines, path in lengths:
        if lines > LIMIT:
            print(f"{path.relative_to(root)}: {lines} lines without tests, {LIMIT} are allowed")
        elif lines > NOTE:
            print(f"note: {path.relative_to(root)}: {lines} lines without tests")
    return int(bool(lengths) and lengths[0][0] > LIMIT)


def sources(root: Path):
    """Every source file that is not a test. Folders that tools made are passed over."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not made_by_tool(Path(folder, name))]
        for path in (Path(folder, name) for name in names):
            is_test = path.stem == "tests" or TEST_FOLDERS & set(path.relative_to(root).parts)
            if path.suffix in SOURCES and not is_test:
                yield path


def made_by_tool(folder: Path) -> bool:
    marks = ("CACHEDIR.TAG", "pyvenv.cfg")
    return folder.name.startswith(".") or any((folder / mark).exists() for mark in marks)


def lines_above_tests(path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    tests = INLINE_TESTS.search(text) if path.suffix == ".rs" else None
    return len(text[: tests.start() if tests else None].splitlines())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
