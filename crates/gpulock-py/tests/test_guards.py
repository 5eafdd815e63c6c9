"""The three protections on real stores; test_protections.py has each alone."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gpulock
import pytest
from conftest import LONG, PrivateRedis, until
from gpulock import memory, protections
from gpulock.testing import StoreForTests

Look = Callable[[], list[dict[str, Any]]]


class Broken(Exception):
    """What a task fails with."""


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A torch that uses a GPU, and what it was asked to do."""
    torch: Any = ModuleType("torch")
    torch.told = []
    torch.cuda = SimpleNamespace(
        is_initialized=lambda: True,
        empty_cache=lambda: torch.told.append("empty_cache"),
        ipc_collect=lambda: torch.told.append("ipc_collect"),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


@pytest.fixture
def hook() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Sets hooks for one test."""
    hooks: list[Callable[[], object]] = []

    def add(one: Callable[[], object]) -> None:
        hooks.append(gpulock.on_release(one))

    yield add
    for one in hooks:
        memory.remove_hook(one)


def fail(error: BaseException) -> Callable[[], object]:
    def step() -> None:
        raise error

    return step


# --- their order ------------------------------------------------------------------------------


def test_memory_is_freed_before_the_gpu_goes_on(
    store: StoreForTests, leases: Look, torch: Any, hook: Any
) -> None:
    hook(lambda: torch.told.append(f"{len(leases())} held"))
    with gpulock.lease():
        torch.told.append("work")
    assert torch.told == ["work", "empty_cache", "ipc_collect", "1 held"]
    assert not leases()


def test_garbage_is_collected_first(store: StoreForTests, torch: Any) -> None:
    class Model:
        def __del__(self) -> None:
            torch.told.append("collected")

    with gpulock.lease():
        model = Model()
        model.itself = model  # type: ignore[attr-defined]
        del model
    assert torch.told[0] == "collected"


def test_a_framework_that_uses_no_gpu_is_left_alone(store: StoreForTests, torch: Any) -> None:
    torch.cuda.is_initialized = lambda: False
    with gpulock.lease():
        pass
    assert torch.told == []


def test_nothing_is_imported_to_free_memory(store: StoreForTests) -> None:
    before = set(sys.modules)
    with gpulock.lease():
        pass
    assert not {"torch", "paddle", "tensorflow", "cupy", "mxnet"} & (set(sys.modules) - before)


# --- the guard around memory ------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), MemoryError(), SystemExit(1)])
def test_memory_that_cannot_be_freed_stops_neither_the_rest_nor_the_release(
    store: StoreForTests,
    leases: Look,
    torch: Any,
    hook: Any,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    torch.cuda.empty_cache = fail(error)
    hook(lambda: torch.told.append("hook"))
    with pytest.raises(Broken), gpulock.lease():
        raise Broken
    assert torch.told == ["hook"]
    assert not leases()
    assert "freeing GPU memory failed" in caplog.text


def test_an_interruption_of_the_clean_up_comes_through_after_it(
    store: StoreForTests, leases: Look, hook: Any
) -> None:
    hook(fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt), gpulock.lease():
        pass
    assert not leases()


def test_an_interruption_of_the_clean_up_replaces_no_exception(
    store: StoreForTests, leases: Look, hook: Any
) -> None:
    hook(fail(KeyboardInterrupt()))
    with pytest.raises(Broken), gpulock.lease():
        raise Broken
    assert not leases()


# --- a release that is not confirmed ----------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The log of critical failures; nobody waits for long before it is written."""
    log = tmp_path / "log" / "critical_failures.jsonl"
    monkeypatch.setenv("GPULOCK_GPU_LOCK__STORE_PATIENCE", "0.3")
    monkeypatch.setenv("GPULOCK_CRITICAL_FAILURE_LOG", str(log))
    monkeypatch.setattr(protections, "RETRY_FOR", 0.5)
    return log


def sums(names: str) -> list[int]:
    counters = gpulock.Client().counters()
    return [counters[name] for name in names.split()]


def test_a_release_that_nobody_hears_is_written_down_and_told_later(
    redis: PrivateRedis, impatient: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Broken), gpulock.lease(gpus=[0], task="ocr") as held:
        redis.kill()
        raise Broken
    [line] = impatient.read_text().splitlines()
    record = json.loads(line)
    facts = ("lock_key", "task", "lease_id", "token", "pid")
    expected = ["gpu_lock:0", "ocr", held.lease_id, held.token, os.getpid()]
    assert [record[fact] for fact in facts] == expected
    assert record["error"]
    assert {"time", "host", "traceback"} <= record.keys()
    assert [one.levelname for one in caplog.records if "deadline" in one.message] == ["CRITICAL"]
    assert impatient.stat().st_mode & 0o077 == 0
    redis.start()
    until(lambda: sums("normal_release_failures emergency_releases") == [1, 0])
    until(lambda: any(e.get("incident") == "critical_failure" for e in gpulock.Client().history()))


def test_without_an_exception_of_its_own_the_task_is_well(
    redis: PrivateRedis, impatient: Path
) -> None:
    with gpulock.lease(gpus=[0]):
        redis.kill()
    assert impatient.exists()
    redis.start()


def test_a_release_by_hand_says_that_it_is_not_confirmed(
    redis: PrivateRedis, impatient: Path
) -> None:
    held = gpulock.Client().acquire(gpus=[0])
    redis.kill()
    with pytest.raises(gpulock.StoreUnavailable):
        held.release()
    redis.start()


def test_a_second_connection_releases_what_the_first_could_not(
    redis: PrivateRedis, impatient: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protections, "RETRY_FOR", LONG)
    again = protections._WayOut._release_by_name

    def after_the_restart(way_out: Any, *arguments: Any) -> Any:
        redis.start()
        return again(way_out, *arguments)

    monkeypatch.setattr(protections._WayOut, "_release_by_name", after_the_restart)
    with gpulock.lease(gpus=[0]):
        redis.kill()
    assert not gpulock.Client().status()["leases"]
    until(lambda: sums("normal_release_failures emergency_releases") == [1, 1])
    assert not impatient.exists()


def test_where_the_log_cannot_be_written_the_users_own_folder_has_it(
    redis: PrivateRedis, impatient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPULOCK_CRITICAL_FAILURE_LOG", "/proc/no/such/log.jsonl")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with gpulock.lease(gpus=[0], task="asr"):
        redis.kill()
    own = tmp_path / "state" / "gpulock" / "critical_failures.jsonl"
    assert json.loads(own.read_text())["task"] == "asr"
    redis.start()


# --- the end of the process -------------------------------------------------------------------


def test_a_process_that_ends_hands_its_gpu_on_when_it_is_gone(
    store: StoreForTests, program: Callable[[str], subprocess.Popen[str]], leases: Look
) -> None:
    process = program(
        "import signal, sys, gpulock\n"
        "gpulock.on_release(lambda: print('freed'))\n"
        "try:\n"
        "    with gpulock.lease():\n"
        "        sys.exit(5)\n"
        "finally:\n"
        "    print('left', flush=True)\n"
        "    signal.pause()\n"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "left\n", "there is no time to free memory"
    until(lambda: [lease["state"] for lease in leases()] == ["draining"])
    process.kill()
    with gpulock.lease(max_wait_time=LONG):
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_by_system_exit_is_no_end_of_the_process(
    store: StoreForTests, leases: Look
) -> None:
    import threading

    def work() -> None:
        with gpulock.lease():
            sys.exit()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not leases()


# --- a configuration that changes -------------------------------------------------------------


def test_a_changed_configuration_is_in_force_and_an_invalid_one_is_refused(
    store: StoreForTests,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "config.yml"
    file.write_text("gpu_lock: {max_wait_time: 11}\n")
    monkeypatch.setenv("GPULOCK_CONFIG", str(file))
    caplog.set_level(logging.INFO, "gpulock")
    client = gpulock.Client()

    def longest() -> float:
        return float(client.settings["gpu_lock.max_wait_time"])

    assert longest() == 11
    with gpulock.lease() as held:
        file.write_text("gpu_lock: {max_wait_time: 22}\n")
        until(lambda: longest() == 22)
        held.check()
    file.write_text("gpu_lock: {max_wait_tim: 33}\n")
    until(lambda: (longest(), "is refused" in caplog.text)[1])
    assert longest() == 22
    assert caplog.text.count("is refused") == 1
    assert "max_wait_time" in caplog.text
