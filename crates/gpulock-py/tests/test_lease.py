"""`lease()`, `Lease`, `current()`, re-entry."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gpulock
import pytest
from conftest import LONG, until
from gpulock import Lease, _gpulock, lease
from gpulock._operation import block, completed, finish
from gpulock.testing import StoreForTests

Look = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def gpulock_gpus() -> int:
    return 2


def seize(held: Lease, url: str, reason: str = "tested") -> None:
    """Takes a lease away, as an operator would."""
    client = _gpulock.Client(url)
    assert block(completed(client.seize(held.lease_id, held.token, reason)))


def test_a_block_holds_and_gives_back(store: StoreForTests, leases: Look) -> None:
    with lease(task="ocr", gpus=[1]) as held:
        (seen,) = leases()
        assert (seen["lease_id"], seen["token"]) == (held.lease_id, held.token)
        assert (held.task, held.gpus, held.pool) == ("ocr", [1], "default")
        assert held.visible_devices == "1"
        assert held.lock_key == "gpu_lock:1"
        assert held.waited >= 0
        assert held.deadline_in > 0
        assert not held.lost
        assert not held.stop_requested
        assert not held.released
        held.check()
        held.progress(45, "frame 100")
        until(lambda: leases()[0]["progress"] == 45.0, "for the progress")
        assert leases()[0]["message"] == "frame 100"
    assert held.released
    assert leases() == []


def test_one_scope_serves_again_and_again_and_in_threads(
    store: StoreForTests, leases: Look
) -> None:
    scope = lease()
    both = threading.Barrier(2)
    seen: list[list[int]] = []

    def work() -> None:
        with scope as held:
            both.wait(30)
            seen.append(held.gpus)
            both.wait(30)

    for _ in range(2):
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(seen) == [[0], [0], [1], [1]]
    assert leases() == []


def test_a_timeout_names_the_holder(store: StoreForTests) -> None:
    with store.held_by_somebody_else(gpus=["0"], task="asr"):
        with pytest.raises(gpulock.GpuLockTimeout) as caught:
            with lease(gpus=[0], max_wait_time=0.05):
                pytest.fail("it was not free")
    error = caught.value
    assert "GPU_LOCK_TIMEOUT" in str(error)
    assert "asr" in str(error)
    assert f"pid {os.getpid()}" in str(error)
    assert "hint:" in str(error)
    assert error.holder is not None
    assert (error.holder["task"], error.holder["gpus"]) == ("asr", [0])
    assert error.waited is not None
    assert error.position == 1
    assert store.status()["queue"] == []


def test_not_waiting_at_all(store: StoreForTests) -> None:
    with store.held_by_somebody_else(gpus=["0"]):
        with pytest.raises(gpulock.GpuLockTimeout), lease(gpus=[0], max_wait_time=0):
            pytest.fail("it was not free")


def test_what_can_never_be_met_is_said_at_once(store: StoreForTests) -> None:
    for gpus in (3, [7]):
        with pytest.raises(gpulock.GpuLockError) as caught, lease(gpus=gpus):
            pytest.fail("there are two GPUs")
        assert caught.value.kind == "refused"


# --- by hand ----------------------------------------------------------------------------------


def test_acquire_and_release(store: StoreForTests, leases: Look) -> None:
    client = gpulock.Client()
    held = client.acquire(task="ocr", gpus=2, priority="high")
    assert held.gpus == [0, 1]
    assert gpulock.current() is held
    (seen,) = client.status()["leases"]
    assert (seen["task"], seen["priority"]) == ("ocr", "high")
    held.release()
    held.release()
    assert leases() == []
    with pytest.raises(gpulock.GpuLockError) as caught:
        gpulock.current()
    assert caught.value.kind == "no_lease"
    assert client.history(limit=1)[0]["task"] == "ocr"
    assert client.history(task="nobody") == []
    assert client.counters()


def test_a_lease_is_a_block_too(store: StoreForTests, leases: Look) -> None:
    with gpulock.Client(store.url).acquire() as held:
        assert leases()
    assert held.released
    assert leases() == []


def test_forgetting_to_release_is_warned_of(store: StoreForTests, leases: Look) -> None:
    held = gpulock.Client().acquire(task="leak")
    assert leases()
    with pytest.warns(ResourceWarning, match="the lease of leak on GPU 0 was never released"):
        del held
        gc.collect()
    until(lambda: leases() == [], "for the forgotten lease")


def test_options_of_a_client_go_to_its_pool(store: StoreForTests) -> None:
    lab = gpulock.Client(pool="lab")
    with lab.lease(gpus=[1]) as held:
        assert (held.pool, held.lock_key) == ("lab", "gpu_lock:lab/1")
        assert store.status()["leases"] == []
    with gpulock.Client().acquire(lock_key="gpu_lock:lab/0") as held:
        assert held.pool == "lab"


def test_visible_devices_are_set_and_restored(
    store: StoreForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    with lease(gpus=[1], set_visible_devices=True):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with lease(gpus=2, set_visible_devices=True):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


# --- lost, and asked to stop ------------------------------------------------------------------


def test_a_lost_lease_is_told_in_every_way(store: StoreForTests) -> None:
    told: list[Lease] = []
    with pytest.raises(gpulock.LeaseLost, match="while it was in use"):
        with lease(heartbeat_interval=0.05, heartbeat_timeout=2, on_lost=told.append) as held:
            seize(held, store.url)
            until(lambda: held.lost, "for the loss")
            with pytest.raises(gpulock.LeaseLost, match="lost"):
                held.check()
            until(lambda: told, "for the callback")
    assert told == [held]


def test_a_loss_replaces_no_exception_of_the_task(
    store: StoreForTests, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyError), lease() as held:
        seize(held, store.url)
        raise KeyError("mine")
    assert "was lost" in caplog.text


def test_releasing_a_lost_lease_by_hand(store: StoreForTests) -> None:
    held = gpulock.Client().acquire()
    seize(held, store.url)
    with pytest.raises(gpulock.LeaseLost):
        held.release()


def test_an_operator_asks_to_stop(store: StoreForTests, gpulock_command: str) -> None:
    told: list[str | None] = []
    ask = [gpulock_command, "release", "gpu_lock:0", "--ask", "--reason", "maintenance"]
    with pytest.raises(gpulock.StopRequested, match="maintenance"):
        with lease(
            gpus=[0],
            heartbeat_interval=0.05,
            raise_on_stop=True,
            on_stop=lambda held: told.append(held.stop_reason),
        ) as held:
            held.check()
            subprocess.run(ask, check=True, capture_output=True)
            until(lambda: held.stop_requested, "for the request")
            assert held.stop_reason is not None
            assert "maintenance" in held.stop_reason
            until(lambda: told, "for the callback")
            held.progress(50)
    assert told == [held.stop_reason]


def test_without_opting_in_nothing_is_raised(store: StoreForTests) -> None:
    with lease(timeout=0.01) as held:
        until(lambda: held.stop_requested, "for the timeout")
        held.check()
        held.progress(1)


def test_a_timeout_asks_the_holder_to_stop_and_leaves_the_lease(store: StoreForTests) -> None:
    told: list[str | None] = []
    held = gpulock.Client().acquire(
        timeout=0.05, raise_on_stop=True, on_stop=lambda held: told.append(held.stop_reason)
    )
    until(lambda: told, "for the callback")
    assert told == ["it has been held for its timeout of 0.05s"]
    with pytest.raises(gpulock.StopRequested, match="timeout of"):
        held.check()
    assert not held.lost
    held.release()


def test_a_failing_callback_is_logged_and_the_next_are_called(
    store: StoreForTests, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Lease] = []

    def fail(_held: Lease) -> None:
        raise SystemExit("not in a callback")

    with lease(timeout=0.01, on_stop=fail):
        until(lambda: "a callback of the lease" in caplog.text, "for the log")
    with lease(timeout=0.01, on_stop=told.append):
        until(lambda: told, "for the callback")


def test_the_thread_for_callbacks_ends(store: StoreForTests) -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate()]

    with lease(on_lost=lambda _: None):
        assert "gpulock-callbacks" in threads()
    until(lambda: "gpulock-callbacks" not in threads(), "for the thread")


def test_danger_is_told_before_the_loss(redis: Any) -> None:
    told: list[str] = []
    # Whether the lease is still the current one when the server is back decides the server.
    with suppress(gpulock.LeaseLost):
        with lease(
            heartbeat_interval=0.2,
            heartbeat_timeout=2,
            on_danger=lambda _: told.append("danger"),
            on_lost=lambda _: told.append("lost"),
        ) as held:
            redis.stall()
            until(lambda: held.lost, "for the loss")
            until(lambda: "lost" in told, "for the callback")
            redis.go_on()
    assert told[-2:] == ["danger", "lost"]


# --- re-entry ---------------------------------------------------------------------------------


def test_what_is_held_is_entered_again(store: StoreForTests, leases: Look) -> None:
    with lease(gpus=2) as outer:
        for options in ({}, {"gpus": 2}, {"gpus": [1]}, {"lock_key": "gpu_lock:0"}):
            with lease(**options) as inner:  # type: ignore[arg-type]
                assert inner is outer
                assert len(leases()) == 1
            assert not outer.released
    assert outer.released


def test_entering_again_asks_no_store(redis: Any) -> None:
    with lease() as outer:
        redis.stall()
        with lease() as inner:
            assert inner is outer
        redis.go_on()


def test_acquiring_again_by_hand(store: StoreForTests, leases: Look) -> None:
    client = gpulock.Client()
    outer = client.acquire(gpus=[0])
    inner = client.acquire(gpus=[0])
    inner.release()
    assert leases()
    outer.release()
    assert leases() == []


def test_waiting_for_oneself_is_refused_at_once(store: StoreForTests) -> None:
    for options in ({"gpus": [0], "reentrant": False}, {"gpus": [0, 1]}, {"gpus": 2}):
        with lease(gpus=[0]) as outer:
            with pytest.raises(gpulock.GpuLockError, match="its own lease") as caught:
                with lease(**options):  # type: ignore[arg-type]
                    pytest.fail("it waits for itself")
            assert caught.value.kind == "refused"
            assert "reentrant=False" in (caught.value.hint or "")
            assert not outer.lost


def test_what_is_not_covered_and_free_is_a_lease_of_its_own(store: StoreForTests) -> None:
    with lease(gpus=[0]) as outer, lease(gpus=[1]) as inner:
        assert inner is not outer
        assert gpulock.current() is inner
        with lease(gpus=[0]) as again:
            assert again is outer
            assert gpulock.current() is outer
        assert gpulock.current() is inner
    with lease(gpus=[0]) as outer, gpulock.Client(pool="lab").lease(gpus=[0]) as inner:
        assert inner.pool == "lab"


def test_a_lost_lease_is_not_entered_again(store: StoreForTests) -> None:
    with pytest.raises(gpulock.LeaseLost):
        with lease(gpus=1, heartbeat_interval=0.05) as outer:
            seize(outer, store.url)
            until(lambda: outer.lost, "for the loss")
            with lease(gpus=[1]) as inner:
                assert inner is not outer


def test_a_released_lease_is_not_entered_again(store: StoreForTests) -> None:
    with lease(gpus=[0]) as outer:
        outer.release()
        with lease(gpus=[0]) as inner:
            assert inner is not outer


def test_a_thread_with_the_same_context_is_a_stranger(store: StoreForTests) -> None:
    seen: list[object] = []

    def work() -> None:
        seen.append(gpulock.current())
        with lease(gpus=1) as own:
            seen.append(own)
        try:
            lease(gpus=[0]).__enter__()
        except gpulock.GpuLockError as error:
            seen.append(error.kind)

    with lease(gpus=[0]) as outer:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        thread.join()
    assert seen[0] is outer
    assert seen[1] is not outer
    assert seen[2] == "refused"


def test_leaving_in_another_thread_than_entering(store: StoreForTests, leases: Look) -> None:
    scope = lease(gpus=[0])
    thread = threading.Thread(target=scope.__enter__)
    thread.start()
    thread.join()
    assert leases()
    scope.__exit__(None, None, None)
    assert leases() == []


# --- asyncio ----------------------------------------------------------------------------------


def test_async_with(store: StoreForTests) -> None:
    async def main() -> None:
        async with lease(task="ocr") as held:
            assert gpulock.current() is held
            async with lease() as inner:
                assert inner is held
        held = await gpulock.Client().aacquire(gpus=2)
        await held.arelease()
        async with await gpulock.Client().aacquire(gpus=2):
            pass

    asyncio.run(main())
    assert store.status()["leases"] == []


def test_a_child_task_is_a_stranger(store: StoreForTests) -> None:
    async def child(outer: Lease) -> None:
        assert gpulock.current() is outer
        async with lease() as own:
            assert own is not outer
        with pytest.raises(gpulock.GpuLockError, match="its own lease"):
            async with lease(gpus=[0]):
                pytest.fail("it waits for its parent")

    async def main() -> None:
        async with lease(gpus=[0]) as outer:
            await asyncio.create_task(child(outer))
            assert gpulock.current() is outer

    asyncio.run(main())


def test_many_waiting_coroutines_neither_block_the_loop_nor_take_threads(
    store: StoreForTests,
) -> None:
    count, running, most = 40, 0, 0

    async def work() -> None:
        nonlocal running, most
        async with lease(gpus=[0], poll_interval=0.5):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    async def main() -> int:
        client = _gpulock.Client(store.url)
        async with lease(gpus=[1]):
            first = await gpulock.Client().aacquire(gpus=[0], reentrant=False)
        # A context of their own: these are not inside the first one.
        tasks = [contextvars.Context().run(asyncio.create_task, work()) for _ in range(count)]

        async def queued() -> int:
            return len(json.loads(await finish(completed(client.status())))["queue"])

        deadline = time.monotonic() + 60
        while await queued() < count:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        threads = threading.active_count()
        await first.arelease()
        await asyncio.gather(*tasks)
        return threads

    threads = asyncio.run(main())
    assert threads <= 2
    assert most == 1


def test_cancelling_a_wait_leaves_the_queue(store: StoreForTests, waiters: Look) -> None:
    async def main() -> None:
        task = asyncio.create_task(lease(gpus=[0]).__aenter__())
        while not waiters():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while waiters():
            await asyncio.sleep(0.01)

    with store.held_by_somebody_else(gpus=["0"]):
        asyncio.run(main())


def test_cancelling_the_work_releases(store: StoreForTests, leases: Look) -> None:
    async def work(inside: asyncio.Event) -> None:
        async with lease():
            inside.set()
            await asyncio.sleep(3600)

    async def main() -> None:
        inside = asyncio.Event()
        task = asyncio.create_task(work(inside))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert leases() == []

    asyncio.run(main())


def test_waiting_for_loss_and_for_the_request_to_stop(store: StoreForTests) -> None:
    async def main() -> None:
        async with lease(timeout=0.05) as held:
            assert await asyncio.wait_for(held.wait_stop_requested(), 30)
        held = await gpulock.Client().aacquire(heartbeat_interval=0.05)
        loss = asyncio.create_task(held.wait_lost())
        stop = asyncio.create_task(held.wait_stop_requested())
        await asyncio.sleep(0)
        seize(held, store.url)
        assert await asyncio.wait_for(loss, 30)
        with pytest.raises(gpulock.LeaseLost):
            await held.arelease()
        assert not await asyncio.wait_for(stop, 30)

    asyncio.run(main())


# --- the log ----------------------------------------------------------------------------------


def test_a_long_wait_is_told_in_the_log(
    store: StoreForTests, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpulock._operation import Waiting

    monkeypatch.setattr(Waiting, "FIRST", 0.0)
    monkeypatch.setattr(Waiting, "pause", 0.02)
    caplog.set_level(logging.INFO, "gpulock")
    with store.held_by_somebody_else(gpus=["0"], task="asr"):
        with pytest.raises(gpulock.GpuLockTimeout), lease(gpus=[0], task="ocr", max_wait_time=0.6):
            pytest.fail("it was not free")
    lines = [record for record in caplog.records if "still waiting" in record.message]
    told = [record.message for record in lines if "held by asr" in record.message]
    assert told
    assert told[0].startswith("still waiting for GPU 0: place 1 in the queue; held by asr (pid ")
    assert len(told) == 1
    assert lines[0].__dict__["task"] == "ocr"


def test_a_silent_store_is_told_in_the_log(
    redis: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpulock._operation import Waiting

    monkeypatch.setattr(Waiting, "pause", 0.02)
    monkeypatch.setenv("GPULOCK_GPU_LOCK__STORE_PATIENCE", "1")
    redis.kill()
    with pytest.raises(gpulock.StoreUnavailable), lease(gpus=[0]):
        pytest.fail("there is no store")
    assert "waiting for GPU 0, but the store" in caplog.text


# --- Ctrl-C -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["with", "async with"])
def test_ctrl_c_ends_a_wait_and_leaves_the_queue(
    store: StoreForTests, program: Any, waiters: Look, kind: str
) -> None:
    wait = {
        "with": "with lease(): pass",
        "async with": "async def main():\n    async with lease(): pass\nasyncio.run(main())",
    }[kind]
    with store.held_by_somebody_else(gpus=2):
        process = program(
            "import asyncio, signal\n"
            "from gpulock import lease\n"
            "# It is ignored where the tests run in the background.\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n" + wait
        )
        until(waiters, "until it waits")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LONG)
        assert "KeyboardInterrupt" in errors
        assert not waiters()
