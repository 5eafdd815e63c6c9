"""What the tests of the Python package share."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gpulock.testing import StoreForTests, gpulock_gpus, gpulock_store

__all__ = ["gpulock_gpus", "gpulock_store"]

REPOSITORY = Path(__file__).resolve().parents[3]

# Longer than anything takes that a test waits for, in seconds.
LONG = 60.0


def until(is_so: Callable[[], Any], what: str = "") -> Any:
    """Waits until something is true, and gives it."""
    deadline = time.monotonic() + LONG
    while True:
        found = is_so()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited in vain {what}"
        time.sleep(0.005)


@pytest.fixture
def store(gpulock_store: StoreForTests) -> StoreForTests:
    return gpulock_store


@pytest.fixture
def waiters(store: StoreForTests) -> Callable[[], list[dict[str, Any]]]:
    """Who waits now."""
    return lambda: store.status()["queue"]


@pytest.fixture
def leases(store: StoreForTests) -> Callable[[], list[dict[str, Any]]]:
    """Who holds now."""
    return lambda: store.status()["leases"]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts Python with a text as its program, in its environment."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str) -> subprocess.Popen[str]:
        file = tmp_path / f"program{len(started)}.py"
        file.write_text(text)
        process = subprocess.Popen(
            [sys.executable, str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def gpulock_command() -> str:
    """The command line, built if it is not."""
    subprocess.run(["cargo", "build", "-q", "-p", "gpulock-cli"], cwd=REPOSITORY, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    return str(target / "debug" / "gpulock")


class PrivateRedis:
    """A Redis server of one test."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self._folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--dir", str(self._folder), "--appendonly", "yes"]
        self.process = subprocess.Popen(
            ["redis-server", *options, "--bind", "127.0.0.1", "--save", ""],
            stdout=subprocess.DEVNULL,
        )
        until(self._answers, "for redis-server")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stall(self) -> None:
        """It keeps its connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


@pytest.fixture
def redis(
    tmp_path: Path, store: StoreForTests, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PrivateRedis]:
    """A store on a private Redis server, which the environment names as the default one."""
    server = PrivateRedis(tmp_path)
    monkeypatch.setenv("GPULOCK_STORE", server.url)
    yield server
    server.go_on()
    server.kill()
