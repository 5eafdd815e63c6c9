"""Fixtures for tests of programs that use gpulock.

    pytest_plugins = ["gpulock.testing"]

    def test_waits(gpulock_store):
        with gpulock_store.held_by_somebody_else(gpus=["0"]):
            with pytest.raises(GpuLockTimeout):
                transcribe("a.wav")

Each test has a store of its own, in a file, with one GPU that needs no hardware; override the
fixture `gpulock_gpus` for another number. Child processes use the same store, through the
environment.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from gpulock import _gpulock, _process
from gpulock._operation import block, completed
from gpulock.client import Client

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

__all__ = ["StoreForTests", "gpulock_gpus", "gpulock_store"]


class StoreForTests:
    """A private store with GPUs that need no hardware."""

    def __init__(self, url: str, gpus: int) -> None:
        self.url = url
        """Its URL."""
        self.gpus = gpus
        """How many GPUs it has: 0, 1, and so on."""

    @contextmanager
    def held_by_somebody_else(
        self, gpus: int | list[str] = 1, task: str = "somebody else"
    ) -> Generator[_gpulock.Lease]:
        """GPUs are taken while the block runs: any so many, or those of the list."""
        native = block(completed(_gpulock.Client(self.url).request(task, gpus, max_wait=0.0)))
        try:
            yield native
        finally:
            block(completed(native.release()))

    def status(self) -> dict[str, Any]:
        """Who holds and who waits, see `Client.status()`."""
        return Client(self.url).status()

    def history(self) -> list[dict[str, Any]]:
        """What happened, see `Client.history()`."""
        return Client(self.url).history()


@pytest.fixture
def gpulock_gpus() -> int:
    """How many GPUs the store of a test has."""
    return 1


@pytest.fixture
def gpulock_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpulock_gpus: int
) -> Iterator[StoreForTests]:
    """A store of this test alone, which the environment names as the default one."""
    url = f"sqlite://{tmp_path / 'gpulock.db'}"
    monkeypatch.setenv("GPULOCK_STORE", url)
    monkeypatch.setenv("GPULOCK_GPUS", ",".join(map(str, range(gpulock_gpus))))
    monkeypatch.setenv("GPULOCK_POOL", "default")
    for name in ("GPULOCK_DISABLED", "GPULOCK_LEASE_ID", "GPULOCK_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    _process.forget_clients()
    yield StoreForTests(url, gpulock_gpus)
    _process.forget_clients()
