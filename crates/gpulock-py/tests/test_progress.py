"""`gpulock.progress()`: to the lease that is held, else to the `gpulock run` around the process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gpulock
import pytest
from conftest import until
from gpulock.testing import StoreForTests

Look = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end to read from of a pipe that the environment names as that of `gpulock run`."""
    heard, told = os.pipe()
    monkeypatch.setenv("GPULOCK_PROGRESS_FD", str(told))
    monkeypatch.setenv("GPULOCK_PROGRESS_PIPE", str(os.fstat(told).st_ino))
    os.set_blocking(heard, False)
    yield heard
    for number in (heard, told):
        try:
            os.close(number)
        except OSError:
            # The test has closed it.
            continue


def test_it_goes_to_the_lease_that_is_held(
    store: StoreForTests, leases: Look, listener: int
) -> None:
    with gpulock.lease():
        gpulock.progress(45.5, "frame 100")
        until(lambda: leases()[0].get("progress") == 45.5)
        assert leases()[0]["message"] == "frame 100"
    with pytest.raises(BlockingIOError):
        os.read(listener, 1)


def test_without_a_lease_it_is_a_line_for_run(listener: int) -> None:
    gpulock.progress(45, "two\nlines \u00e4")
    gpulock.progress(-3)
    gpulock.progress(300, "x" * 10_000)
    first, second, third = os.read(listener, 65536).splitlines(keepends=True)
    assert (first, second) == ("progress 45.00 two lines \u00e4\n".encode(), b"progress 0.00 \n")
    assert third.startswith(b"progress 100.00 xxx")
    assert (len(third), third[-1:]) == (4096, b"\n")


def test_where_nobody_listens_nothing_happens(
    listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.close(listener)
    gpulock.progress(45)
    monkeypatch.setenv("GPULOCK_PROGRESS_FD", "no number")
    gpulock.progress(45)
    monkeypatch.setenv("GPULOCK_PROGRESS_FD", "-1")
    gpulock.progress(45)
    monkeypatch.delenv("GPULOCK_PROGRESS_FD")
    gpulock.progress(45)


def test_a_full_pipe_keeps_nobody_waiting(listener: int) -> None:
    for number in range(100_000):
        gpulock.progress(1, f"line {number}")
    assert os.read(listener, 17).startswith(b"progress 1.00 li")


def test_something_else_under_the_number_is_left_alone(listener: int, tmp_path: Path) -> None:
    number = int(os.environ["GPULOCK_PROGRESS_FD"])
    other, told = os.pipe()
    os.set_blocking(other, False)
    os.dup2(told, number)
    gpulock.progress(45)
    with pytest.raises(BlockingIOError):
        os.read(other, 1)
    with (tmp_path / "file").open("wb") as file:
        os.dup2(file.fileno(), number)
        gpulock.progress(45)
    assert (tmp_path / "file").read_bytes() == b""
    os.close(other)
    os.close(told)


def test_under_run_it_stands_in_the_status(
    store: StoreForTests, leases: Look, gpulock_command: str, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, gpulock\ngpulock.progress(45, 'frame 100')\nsys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [gpulock_command, "run", "--", sys.executable, str(program)], stdin=subprocess.PIPE
    ) as run:
        assert run.stdin is not None
        told = [(45, "frame 100")]
        until(lambda: [(one.get("progress"), one.get("message")) for one in leases()] == told)
        run.stdin.close()
    assert run.returncode == 0
