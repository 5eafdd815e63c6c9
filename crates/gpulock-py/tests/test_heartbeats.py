"""Signs of life of tasks: told by hand, and kept up in the background by their older names."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import gpulock
import pytest
from conftest import PrivateRedis, until
from gpulock import Client, compat
from gpulock.compat import start_task_heartbeat, stop_task_heartbeat, update_task_heartbeat
from gpulock.testing import StoreForTests
from test_process import in_child

Start = Callable[[str], "subprocess.Popen[str]"]

OFTEN = "0.05"


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, store: StoreForTests) -> str:
    """The kind of the default store."""
    if request.param == "redis":
        request.getfixturevalue("redis")
    return str(request.param)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats are sent often."""
    monkeypatch.setenv("GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__INTERVAL", OFTEN)


def record(task_id: str = "video-7") -> dict[str, Any] | None:
    """What is remembered of a task."""
    found = [one for one in Client().task_heartbeats() if one["task_id"] == task_id]
    return found[0] if found else None


def known(task_id: str = "video-7") -> dict[str, Any]:
    found = record(task_id)
    assert found is not None
    return found


def until_renewed(task_id: str = "video-7") -> dict[str, Any]:
    """Waits until a task was told of again."""
    before = known(task_id)["updated_at"]
    until(lambda: known(task_id)["updated_at"] > before, "for the next heartbeat")
    return known(task_id)


# --- told by hand -----------------------------------------------------------------------------


def test_what_is_told_is_remembered(place: str) -> None:
    client = Client()
    assert client.task_heartbeats() == []
    client.heartbeat("video-7", progress=45.5, message="frame 100, Ä", begins=True)
    first = known()
    assert first == {
        "task_id": "video-7",
        "sign": "active",
        "status": "running",
        "progress": 45.5,
        "message": "frame 100, Ä",
        "started_at": first["started_at"],
        "updated_at": first["started_at"],
        "last_heartbeat_seconds_ago": first["last_heartbeat_seconds_ago"],
        "host": first["host"],
        "pid": os.getpid(),
        "lease_id": None,
    }
    assert first["host"] == os.uname().nodename
    client.heartbeat("video-7", "failed")
    last = known()
    assert (last["sign"], last["status"]) == ("finished", "failed")
    assert (last["progress"], last["message"]) == (None, None)
    assert last["started_at"] == first["started_at"] < last["updated_at"]
    client.heartbeat("video-7", begins=True)
    assert known()["started_at"] > first["started_at"]
    assert client.forget_heartbeat("video-7")
    assert not client.forget_heartbeat("video-7")
    assert client.task_heartbeats() == []


def test_coroutines_tell_the_same(place: str) -> None:
    async def main() -> None:
        client = Client()
        await client.aheartbeat("video-7", "completed", 100, "done")
        (told,) = await client.atask_heartbeats()
        assert (told["status"], told["progress"], told["message"]) == ("completed", 100.0, "done")
        assert await client.aforget_heartbeat("video-7")
        assert await client.atask_heartbeats() == []

    asyncio.run(main())


def test_the_latest_comes_first_and_pools_are_separate(store: StoreForTests) -> None:
    for task_id in ("a", "b", "a"):
        Client().heartbeat(task_id)
    Client(pool="lab").heartbeat("c")
    assert [one["task_id"] for one in Client().task_heartbeats()] == ["a", "b"]
    assert [one["task_id"] for one in Client(pool="lab").task_heartbeats()] == ["c"]


@pytest.mark.parametrize(
    ("percent", "told"), [(-1, 0.0), (101, 100.0), (33.333, 33.33), (math.nan, 0.0), (True, 1.0)]
)
def test_progress_is_a_percentage(store: StoreForTests, percent: float, told: float) -> None:
    Client().heartbeat("video-7", progress=percent)
    assert known()["progress"] == told


def test_wrong_arguments_are_refused(store: StoreForTests) -> None:
    with pytest.raises(ValueError, match="one of running, completed, failed, not 'asleep'"):
        Client().heartbeat("video-7", "asleep")
    for task_id in ("", "x" * 257, "a\nb"):
        with pytest.raises(ValueError, match="task name"):
            Client().heartbeat(task_id)
    with pytest.raises(TypeError):
        Client().heartbeat("video-7", progress="much")  # type: ignore[arg-type]
    assert Client().task_heartbeats() == []


def test_a_task_names_the_lease_that_it_runs_under(store: StoreForTests) -> None:
    with gpulock.lease() as held:
        Client().heartbeat("video-7")
        assert (known()["lease_id"], known()["sign"]) == (held.lease_id, "active")
        Client(pool="lab").heartbeat("elsewhere")
        assert Client(pool="lab").task_heartbeats()[0]["lease_id"] is None
    assert known()["sign"] == "orphaned"
    Client().heartbeat("video-7")
    assert (known()["lease_id"], known()["sign"]) == (None, "active")


def test_a_store_that_is_away_is_an_error(
    redis: PrivateRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPULOCK_GPU_LOCK__STORE_PATIENCE", "0")
    client = Client()
    client.heartbeat("video-7")
    redis.kill()
    for call in (
        lambda: client.heartbeat("video-7"),
        client.task_heartbeats,
        lambda: client.forget_heartbeat("video-7"),
    ):
        with pytest.raises(gpulock.StoreUnavailable):
            call()


# --- by their older names ---------------------------------------------------------------------


def test_a_started_task_is_told_of_until_it_is_stopped(place: str, often: None) -> None:
    assert start_task_heartbeat("video-7", interval=5)
    first = until_renewed()
    assert (first["sign"], first["status"], first["progress"]) == ("active", "running", None)
    assert update_task_heartbeat("video-7", "running", 45, "frame 100")
    until(lambda: known()["progress"] == 45.0)
    later = until_renewed()
    assert (later["message"], later["started_at"]) == ("frame 100", first["started_at"])
    assert stop_task_heartbeat("video-7")
    assert record() is None
    assert not stop_task_heartbeat("video-7")


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_task_that_has_ended_keeps_its_record(place: str, often: None, status: str) -> None:
    assert start_task_heartbeat("video-7")
    assert update_task_heartbeat("video-7", status, message="over")
    ended = known()
    assert (ended["sign"], ended["status"], ended["message"]) == ("finished", status, "over")
    assert ended["progress"] == (100.0 if status == "completed" else 0.0)
    # Another one is told of meanwhile, so the first would have been too.
    assert start_task_heartbeat("video-8")
    for _ in range(3):
        until_renewed("video-8")
    assert stop_task_heartbeat("video-7")
    assert known()["updated_at"] == ended["updated_at"]
    assert stop_task_heartbeat("video-8")


def test_a_task_that_starts_again_has_a_new_start(store: StoreForTests, often: None) -> None:
    assert start_task_heartbeat("video-7")
    first = known()
    assert update_task_heartbeat("video-7", "failed")
    assert start_task_heartbeat("video-7")
    again = until_renewed()
    assert (again["status"], again["sign"]) == ("running", "active")
    assert again["started_at"] > first["started_at"]
    assert start_task_heartbeat("video-7")
    assert until_renewed()["started_at"] > again["started_at"]
    assert stop_task_heartbeat("video-7")
    assert record() is None


def test_a_task_that_was_not_started_here_is_told_of_once(store: StoreForTests) -> None:
    assert update_task_heartbeat("video-7", "running", 10, "frame 1")
    assert (known()["progress"], known()["message"]) == (10.0, "frame 1")
    assert not stop_task_heartbeat("video-7")
    assert known()["status"] == "running"
    with pytest.raises(ValueError, match="status"):
        update_task_heartbeat("video-7", "asleep")


def test_a_lease_needs_no_second_record(store: StoreForTests) -> None:
    with gpulock.lease():
        assert start_task_heartbeat("video-7")
        assert update_task_heartbeat("video-7", "running", 45, "frame 100")
        until(lambda: store.status()["leases"][0]["progress"] == 45.0)
        assert stop_task_heartbeat("video-7")
    assert Client().task_heartbeats() == []


def test_a_task_that_takes_a_lease_later_tells_both(store: StoreForTests, often: None) -> None:
    assert start_task_heartbeat("video-7")
    with gpulock.lease():
        assert update_task_heartbeat("video-7", "running", 45, "frame 100")
        until(lambda: store.status()["leases"][0]["progress"] == 45.0)
        until(lambda: known()["progress"] == 45.0)
    until_renewed()
    assert known()["sign"] == "active"
    assert stop_task_heartbeat("video-7")
    assert record() is None


def test_another_thread_may_stop_it(store: StoreForTests) -> None:
    assert start_task_heartbeat("video-7")
    stopped: list[bool] = []
    thread = threading.Thread(target=lambda: stopped.append(stop_task_heartbeat("video-7")))
    thread.start()
    thread.join()
    assert stopped == [True]
    assert record() is None


def test_many_tasks_share_one_native_thread(store: StoreForTests, often: None) -> None:
    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    assert start_task_heartbeat("0")
    before = threads()
    names = [str(number) for number in range(1, 200)]
    assert all(start_task_heartbeat(name) for name in names)
    assert threads() == before
    until_renewed("199")
    assert all(stop_task_heartbeat(name) for name in ["0", *names])
    assert Client().task_heartbeats() == []


def test_trouble_with_the_store_is_logged_and_not_raised(
    redis: PrivateRedis,
    often: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("GPULOCK_GPU_LOCK__STORE_PATIENCE", "0")
    assert start_task_heartbeat("early")
    redis.kill()
    with caplog.at_level(logging.WARNING, logger="gpulock"):
        until(lambda: not update_task_heartbeat("early", "running", 50, ""))
        told = caplog.text.count("task early is not recorded")
        assert not start_task_heartbeat("late")
        assert not update_task_heartbeat("unknown", "running", 50, "")
        assert not update_task_heartbeat("early", "completed")
        assert stop_task_heartbeat("early")
    assert told == 1
    for task_id in ("late", "unknown"):
        assert f"the heartbeat of task {task_id} is not recorded: the store" in caplog.text
    redis.start()
    until(lambda: record("late") is not None, "for the store to be back")
    until_renewed("late")
    assert stop_task_heartbeat("late")


def test_an_odd_name_harms_no_task(store: StoreForTests, caplog: pytest.LogCaptureFixture) -> None:
    assert not start_task_heartbeat("")
    assert not update_task_heartbeat("a\nb", "running", 50, "")
    assert not stop_task_heartbeat("")
    assert caplog.text.count("cannot have a heartbeat") == 2


def test_nothing_is_told_where_nothing_is_locked(
    store: StoreForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPULOCK_DISABLED", "1")
    assert not start_task_heartbeat("video-7")
    assert not update_task_heartbeat("video-7", "running", 50, "")
    assert Client().task_heartbeats() == []


def test_managers_are_one(store: StoreForTests) -> None:
    assert compat.TaskHeartbeatManager().start("video-7")
    assert compat.heartbeat_manager.stop("video-7")
    assert record() is None


# --- processes --------------------------------------------------------------------------------

KEEPS = """
import ctypes, sys
from gpulock.compat import start_task_heartbeat

assert start_task_heartbeat("video-7")
print("started", flush=True)
"""


def test_heartbeats_go_on_while_the_interpreter_is_held(
    place: str, often: None, program: Start
) -> None:
    # `PyDLL` keeps the interpreter lock during the call.
    one = program(KEEPS + "ctypes.PyDLL(None).sleep(600)")
    assert one.stdout is not None
    assert one.stdout.readline() == "started\n"
    for _ in range(3):
        assert until_renewed()["pid"] == one.pid


def test_a_process_ends_although_a_task_was_not_stopped(
    place: str, often: None, program: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__TIMEOUT", "0.2")
    one = program(KEEPS)
    assert one.communicate(timeout=60) == ("started\n", "")
    assert one.returncode == 0
    until(lambda: known()["sign"] == "dead")
    assert known()["status"] == "running"


def test_a_process_ends_although_the_store_does_not_answer(
    redis: PrivateRedis, often: None, program: Start
) -> None:
    one = program(KEEPS + "ctypes.CDLL(None).pause()")
    assert one.stdout is not None
    assert one.stdout.readline() == "started\n"
    redis.stall()
    one.send_signal(signal.SIGINT)
    one.wait(60)
    assert one.returncode != 0


def test_a_child_does_not_go_on_for_its_parent(place: str, often: None) -> None:
    def child() -> None:
        assert not stop_task_heartbeat("video-7")
        assert start_task_heartbeat("child")
        assert known("child")["pid"] == os.getpid()
        until_renewed("child")
        assert stop_task_heartbeat("child")

    assert start_task_heartbeat("video-7")
    for _ in range(3):
        assert in_child(child) == 0
    assert until_renewed()["pid"] == os.getpid()
    assert record("child") is None
    assert stop_task_heartbeat("video-7")
    assert record() is None
