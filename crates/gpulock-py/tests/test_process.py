"""What the package is in a process: its import, its forks, its types."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpulock
import pytest
from conftest import until
from gpulock.testing import StoreForTests

Look = Callable[[], list[dict[str, Any]]]
Start = Callable[[str], subprocess.Popen[str]]


# --- import -----------------------------------------------------------------------------------


def test_the_import_is_light(program: Start) -> None:
    heavy = "{'asyncio', 'celery', 'dataclasses', 'inspect', 'json', 'pytest', 'socket', 'ssl'}"
    one = program(f"import sys, gpulock\nprint(sorted({heavy} & set(sys.modules)))")
    assert one.communicate() == ("[]\n", "")


def test_everything_public_has_a_docstring() -> None:
    for name in gpulock.__all__:
        if name != "__version__":
            assert getattr(gpulock, name).__doc__, name


# --- forks ------------------------------------------------------------------------------------


def in_child(work: Callable[[], object]) -> int:
    """Runs `work` in a child after a fork; 0 if it raised nothing."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            work()
        except BaseException:  # noqa: BLE001 (the child ends here)
            traceback.print_exc()
            code = 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def test_a_child_does_not_have_the_lease_of_its_parent(store: StoreForTests, leases: Look) -> None:
    def child() -> None:
        with pytest.raises(gpulock.GpuLockError) as caught:
            gpulock.current()
        assert caught.value.kind == "no_lease"
        for use in (held.check, held.release, lambda: held.progress(5), lambda: held.lost):
            with pytest.raises(gpulock.NotOwner):
                use()
        with pytest.raises(gpulock.GpuLockTimeout), gpulock.lease(gpus=[0], max_wait_time=0):
            pytest.fail("the parent has it")

    with gpulock.lease(gpus=[0]) as held:
        assert in_child(child) == 0
        held.check()
        assert [lease["lease_id"] for lease in leases()] == [held.lease_id]
    assert leases() == []


def test_a_child_that_leaves_the_block_gives_nothing_back(
    store: StoreForTests, leases: Look
) -> None:
    scope = gpulock.lease(gpus=[0])
    held = scope.__enter__()
    assert in_child(lambda: scope.__exit__(None, None, None)) == 0
    assert [lease["lease_id"] for lease in leases()] == [held.lease_id]
    scope.__exit__(None, None, None)
    assert leases() == []


def test_the_parent_renews_while_its_child_lives(store: StoreForTests, leases: Look) -> None:
    def held_for() -> float:
        return float(leases()[0]["age_seconds"])

    heard, told = os.pipe()
    with gpulock.lease(heartbeat_interval=0.1, heartbeat_timeout=1) as held:
        child = os.fork()
        if child == 0:
            os.read(heard, 1)
            os._exit(0)
        until(lambda: held_for() > 1.5, "until it would have run out")
        held.check()
        os.write(told, b"!")
        os.waitpid(child, 0)
    os.close(heard)
    os.close(told)


def test_an_inherited_client_begins_anew(store: StoreForTests) -> None:
    client = gpulock.Client()
    client.status()

    def child() -> None:
        with client.lease(gpus=[0]) as held:
            assert held.pid == os.getpid()
            (seen,) = client.status()["leases"]
            assert seen["pid"] == os.getpid()

    assert in_child(child) == 0
    assert client.status()["leases"] == []


@gpulock.gpu_lock(task="child")
def locked(_number: int) -> int:
    return int(gpulock.current().pid == os.getpid())


def test_a_pool_of_forked_processes(store: StoreForTests, leases: Look) -> None:
    locked(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(locked, range(8)) == [1] * 8
    assert leases() == []


def test_callbacks_of_the_parent_are_not_called_in_the_child(store: StoreForTests) -> None:
    told: list[int] = []

    def child() -> None:
        with gpulock.lease(
            gpus=[0], store="memory:", on_stop=lambda _: told.append(1), timeout=0.01
        ):
            until(lambda: told, "for the callback of the child")
        assert told == [1]

    with gpulock.lease(gpus=[0], on_stop=lambda _: told.append(2), timeout=3600):
        assert in_child(child) == 0
    assert told == []


# --- types ------------------------------------------------------------------------------------

CALLS = """
from collections.abc import AsyncIterator, Iterator
from typing_extensions import assert_type

import gpulock
from gpulock import Client, Lease, gpu_lock, lease


@gpu_lock
def bare(video: str, *, frames: int = 3) -> bytes:
    return video.encode()


@gpu_lock(gpus=1, priority="high", when=lambda device: device == "cuda", wait="retry")
async def coroutine(video: str) -> bytes:
    return video.encode()


@gpu_lock(lock_key="gpu_lock:1", timeout=600, poll_interval=0.5, max_wait_time=300)
def generator(video: str) -> Iterator[int]:
    yield 1


class Service:
    @gpu_lock()
    def method(self, video: str) -> int:
        return gpulock.current().token

    @gpu_lock()
    @staticmethod
    def static(video: str) -> int:
        return 1

    @gpu_lock()
    @classmethod
    def of_class(cls, video: str) -> int:
        return 1


assert_type(bare("v", frames=1), bytes)
assert_type(generator("v"), Iterator[int])
assert_type(Service().method("v"), int)
assert_type(Service.static("v"), int)
assert_type(Service.of_class("v"), int)


async def main(client: Client) -> None:
    assert_type(await coroutine("v"), bytes)
    with lease(gpus=[0, "GPU-1"], task="ocr", on_lost=lambda held: held.token) as held:
        assert_type(held, Lease)
    async with client.lease(gpus=2) as other:
        assert_type(other.gpus, list[int])
    assert_type(await client.aacquire(max_wait_time=0), Lease)
"""

WRONG = """
from gpulock import Client, gpu_lock, lease


@gpu_lock()
def detect(video: str) -> int:
    return 1


detect(3)
lease(gpu=1)
lease(wait="retry")
Client().acquire(priority="first")
"""


def complaints(tmp_path: Path, checker: list[str], text: str) -> str:
    file = tmp_path / "calls.py"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", *checker, str(file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


# Pyright takes the first `python` of the path unless it is told which.
CHECKERS = {
    "mypy": ["mypy", "--strict"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
}


@pytest.mark.parametrize("checker", CHECKERS.values(), ids=CHECKERS.keys())
def test_calls_are_typed(tmp_path: Path, checker: list[str]) -> None:
    assert complaints(tmp_path, checker, CALLS) == ""
    found = complaints(tmp_path, checker, WRONG)
    for line in (10, 11, 12, 13):
        assert f"calls.py:{line}:" in found, found
