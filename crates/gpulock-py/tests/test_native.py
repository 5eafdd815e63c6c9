"""The native half: one thread that nothing stalls, forks, and the end of the interpreter."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import gpulock
import pytest
from conftest import LONG, PrivateRedis, until
from gpulock import _gpulock
from gpulock.testing import StoreForTests

Start = Callable[[str], "subprocess.Popen[str]"]
Look = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def client(store: StoreForTests) -> _gpulock.Client:
    return _gpulock.Client()


def result(operation: _gpulock.Operation[Any]) -> Any:
    deadline = time.monotonic() + LONG
    while not operation.wait(1):
        assert time.monotonic() < deadline, "waited in vain"
    return operation.result()


# --- operations -------------------------------------------------------------------------------


def test_a_wait_ends_in_time_and_says_so(client: _gpulock.Client) -> None:
    held = result(client.request("holder", 1))
    waiting = client.request("waiter", 1)
    assert waiting.wait(0.01) is False
    result(held.release())
    assert result(waiting).task == "waiter"


@pytest.mark.parametrize("lazily", [False, True])
def test_a_result_is_taken_once(client: _gpulock.Client, lazily: bool) -> None:
    operation = client.request("work", 1, lazily=lazily)
    result(operation)
    with pytest.raises(RuntimeError):
        operation.result()


def test_what_is_not_done_has_no_result(client: _gpulock.Client, waiters: Look) -> None:
    held = result(client.request("holder", 1))
    with pytest.raises(RuntimeError):
        client.request("waiter", 1).result()
    until(lambda: not waiters(), "until the dropped request has left")
    result(held.release())


def test_a_cancelled_request_leaves_the_queue(client: _gpulock.Client, waiters: Look) -> None:
    held = result(client.request("holder", 1))
    waiting = client.request("waiter", 1)
    until(waiters)
    waiting.cancel()
    with pytest.raises(_gpulock.Failure) as failed:
        result(waiting)
    assert failed.value.kind == "called_off"
    assert not waiters()
    result(held.release())


def test_a_grant_that_crossed_with_giving_up_is_given_back(
    client: _gpulock.Client, leases: Look
) -> None:
    waiting = client.request("waiter", 1)
    until(lambda: waiting.wait(1))
    waiting.cancel()
    until(lambda: not leases())
    with pytest.raises(_gpulock.Failure):
        waiting.result()


def test_requests_that_are_called_off_at_once_keep_nothing(
    client: _gpulock.Client, leases: Look, waiters: Look
) -> None:
    requests = [client.request(f"work{number}", 1) for number in range(100)]
    for request in requests:
        request.cancel()
    for request in requests:
        until(lambda request=request: request.wait(1))
        with pytest.raises(_gpulock.Failure) as failed:
            request.result()
        assert failed.value.kind == "called_off"
    until(lambda: not leases() and not waiters())


def test_threads_open_clients_at_the_same_time(store: StoreForTests, program: Start) -> None:
    process = program(
        "import threading\nfrom gpulock import _gpulock\n"
        "def work():\n    for _ in range(50): _gpulock.Client()\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
    )
    assert process.wait(LONG) == 0


def test_the_native_thread_may_be_the_last_that_needs_a_client(
    store: StoreForTests, program: Start, leases: Look
) -> None:
    process = program(
        "from gpulock import _gpulock\n"
        "for _ in range(20):\n"
        "    asked = _gpulock.Client().request('work', 1)\n"
        "    while not asked.wait(1): pass\n"
        "    del asked\n"
        "_gpulock.shutdown(5.0)\n"
    )
    _, errors = process.communicate(timeout=LONG)
    assert (process.returncode, errors) == (0, "")
    assert not leases()


def test_the_descriptor_is_readable_when_it_is_done(client: _gpulock.Client) -> None:
    import select

    held = result(client.request("holder", 1))
    waiting = client.request("waiter", 1)
    assert select.select([waiting.fileno()], [], [], 0) == ([], [], [])
    result(held.release())
    assert select.select([waiting.fileno()], [], [], LONG)[0]
    assert waiting.wait(0)


def test_a_lazy_request_asks_with_its_first_wait(client: _gpulock.Client, leases: Look) -> None:
    operation = client.request("work", 1, lazily=True)
    assert not leases()
    held = result(operation)
    assert [lease["task"] for lease in leases()] == ["work"]
    release = held.release(lazily=True)
    assert leases()
    result(release)
    assert not leases()


def test_a_lazy_release_that_nobody_waits_for_is_done_all_the_same(
    client: _gpulock.Client, leases: Look
) -> None:
    held = result(client.request("work", 1))
    held.release(lazily=True)
    until(lambda: not leases())


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("work", 0.5), {}),
        (("work", ["x"]), {}),
        (("", 1), {}),
        (("a\nb", 1), {}),
        (("work", 1), {"priority": "now"}),
        (("work", 1), {"max_wait": -1.0}),
        (("work", 1), {"lease_id": "short", "run": 1}),
        (("work", 1), {"lease_id": "0" * 32}),
        (("work", 1), {"run": 1}),
        (("work", 1), {"comes_back_within": 1.0}),
    ],
)
def test_arguments_that_make_no_sense(
    client: _gpulock.Client, arguments: Any, options: Any
) -> None:
    with pytest.raises(ValueError):
        client.request(*arguments, **options)
    with pytest.raises(TypeError):
        client.request("work", 1, no_such_option=1)  # type: ignore[call-arg]


# --- the interpreter lock and signals ---------------------------------------------------------


def test_heartbeats_go_on_while_native_code_holds_the_interpreter_lock(
    client: _gpulock.Client,
) -> None:
    held = result(client.request("work", 1, heartbeat_interval=0.05, heartbeat_timeout=0.5))
    ctypes.PyDLL(None).usleep(1_500_000)
    assert held.state().health == "held"
    result(held.release())


def test_other_threads_run_while_one_waits(client: _gpulock.Client) -> None:
    held = result(client.request("holder", 1))
    waiting = client.request("waiter", 1)
    threading.Timer(0.05, lambda: result(held.release())).start()
    assert result(waiting).task == "waiter"


def test_a_signal_ends_a_wait(client: _gpulock.Client) -> None:
    class Rang(Exception):
        pass

    def ring(*_: object) -> None:
        raise Rang

    held = result(client.request("holder", 1))
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Rang):
            waiting = client.request("waiter", 1)
            while not waiting.wait():
                pass
    finally:
        signal.signal(signal.SIGALRM, before)
    result(held.release())


# --- forks ------------------------------------------------------------------------------------


def in_child(work: Callable[[], None]) -> int:
    """Runs `work` in a child after a fork; its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_cannot_use_what_its_parent_made(client: _gpulock.Client) -> None:
    held = result(client.request("work", 1))
    release = client.request("next", 1)
    watch = held.watch()

    def use() -> None:
        of_lease = (held.state, held.watch, held.release, held.retire, held.abandon)
        of_others = (client.status, client.again, release.cancel, release.wait, release.result)
        of_watch = (watch.fileno, watch.wait, watch.state, watch.close)
        for call in of_lease + of_others + of_watch:
            with pytest.raises(_gpulock.Failure) as failed:
                call()
            assert failed.value.kind == "not_owner"

    assert in_child(use) == 0
    assert held.state().health == "held"
    result(held.release())
    result(release)


def test_a_child_asks_for_itself_and_disturbs_nobody(client: _gpulock.Client, leases: Look) -> None:
    held = result(client.request("parent", 1))

    def ask() -> None:
        own = _gpulock.Client()
        with pytest.raises(_gpulock.Failure) as failed:
            result(own.request("child", 1, max_wait=0.05))
        assert failed.value.details["holder"][0]["pid"] == os.getppid()
        _gpulock.shutdown(1.0)

    assert in_child(ask) == 0
    assert [lease["pid"] for lease in leases()] == [os.getpid()]
    result(held.release())


def test_a_parent_that_forks_in_the_midst_of_its_work(client: _gpulock.Client) -> None:
    children = []
    for _ in range(20):
        held = result(client.request("parent", 1, heartbeat_interval=0.01, heartbeat_timeout=5.0))
        child = os.fork()
        if child == 0:
            os._exit(0)
        children.append(child)
        result(held.release())
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * 20


def test_threads_fork_while_others_open_and_lock(store: StoreForTests, program: Start) -> None:
    process = program(
        "import os, signal, threading\nfrom gpulock import _gpulock\n"
        "def done(asked):\n    while not asked.wait(1): pass\n    return asked.result()\n"
        "def open_clients():\n    while running: _gpulock.Client()\n"
        "def lock():\n    client = _gpulock.Client()\n"
        "    while running:\n"
        "        held = done(client.request('work', 1, lazily=True))\n"
        "        done(held.release(lazily=True))\n"
        "def fork():\n"
        "    for _ in range(100):\n"
        "        child = os.fork()\n"
        "        if child == 0:\n"
        f"            signal.alarm({LONG:.0f})\n"
        "            done(_gpulock.Client().status())\n"
        "            os._exit(0)\n"
        "        codes.append(os.waitpid(child, 0)[1])\n"
        "running, codes = True, []\n"
        "others = [threading.Thread(target=work) for work in (open_clients, lock, lock)]\n"
        "forking = [threading.Thread(target=fork) for _ in range(2)]\n"
        "for thread in others + forking: thread.start()\n"
        "for thread in forking: thread.join()\n"
        "running = False\n"
        "for thread in others: thread.join()\n"
        "assert codes == [0] * 200, codes\n"
    )
    _, errors = process.communicate(timeout=2 * LONG)
    # Of forks among threads Python itself warns, from 3.12 on.
    assert (process.returncode, "Error" in errors) == (0, False), errors


def test_a_child_of_multiprocessing_locks_by_itself(store: StoreForTests, leases: Look) -> None:
    import multiprocessing

    context = multiprocessing.get_context("fork")
    with gpulock.lease(), context.Pool(2) as pool:
        answers = pool.map(_try, range(4))
    assert answers == ["busy"] * 4
    with context.Pool(2) as pool:
        assert pool.map(_take, range(4)) == [[0]] * 4
    until(lambda: not leases())


def _try(_: int) -> str:
    try:
        with gpulock.lease(max_wait_time=0):
            return "free"
    except gpulock.GpuLockTimeout:
        return "busy"


def _take(_: int) -> list[int]:
    with gpulock.lease() as held:
        return held.gpus


# --- the end of the interpreter ---------------------------------------------------------------

ENDS = {
    "normal": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "exception": ("1 / 0", 1),
    "os._exit": ("os._exit(4)", 4),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "in a cycle": ("box = []; box.append(box); box.append(held); del held", 0),
    "a daemon thread waits": (
        "threading.Thread(target=lambda: client.acquire(gpus=[0]), daemon=True).start()\n"
        "while not client.status()['queue']: time.sleep(0.01)",
        0,
    ),
    "a thread outlives the main one": (
        "def late():\n    time.sleep(0.2)\n    held.release()\n"
        "threading.Thread(target=late).start()",
        0,
    ),
    "a request is under way": ("client._native.request('late', 1)", 0),
    "at exit, before": ("atexit.register(held.release)", 0),
    "a callback is registered": ("client.lease(on_lost=print, gpus=[1]).__enter__()", 0),
    "after a fork": ("if os.fork() == 0: sys.exit(0)\nos.wait()", 0),
    "a request is in the queue": (
        "late = client._native.request('late', ['0'])\n"
        "while not client.status()['queue']: time.sleep(0.01)",
        0,
    ),
    "a request in the queue was just dropped with its client": (
        "late = gpulock._gpulock.Client().request('late', ['0'])\n"
        "while not client.status()['queue']: time.sleep(0.01)\n"
        "del late",
        0,
    ),
    "a request was just called off": ("client._native.request('late', 1).cancel()", 0),
    "a request was just dropped with its client": (
        "gpulock._gpulock.Client().request('late', 1)",
        0,
    ),
    "a grant was just called off": ("client._native.request('late', ['1']).cancel()", 0),
    "a grant was just dropped with its client": (
        "late = gpulock._gpulock.Client().request('late', ['1'])\n"
        "while not late.wait(1): pass\n"
        "del late",
        0,
    ),
    "a lazy release has not begun": (
        "late = gpulock._gpulock.Client().request('late', ['1'])\n"
        "while not late.wait(1): pass\n"
        "late = late.result().release(lazily=True)",
        0,
    ),
}

# Nobody can say anything any more.
SUDDEN = ("os._exit", "SIGTERM", "SIGKILL")


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, store: StoreForTests) -> Look:
    """A store of either kind, which the environment names; who holds and who waits there."""
    if request.param == "redis":
        request.getfixturevalue("redis")

    def look() -> list[dict[str, Any]]:
        status = gpulock.Client().status()
        return [*status["leases"], *status["queue"]]

    return look


@pytest.mark.parametrize("gpulock_gpus", [2])
@pytest.mark.parametrize("end", ENDS)
def test_every_end_of_the_interpreter_is_prompt_and_leaves_nothing(
    end: str, gpulock_gpus: int, place: Look, program: Start
) -> None:
    text, code = ENDS[end]
    process = program(
        "import atexit, os, signal, sys, threading, time, gpulock\n"
        "client = gpulock.Client()\n"
        "held = client.acquire(gpus=[0])\n"
        "print('holds')\n" + text
    )
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode == code, errors
    assert "panicked" not in errors
    if end not in SUDDEN:
        # It says so itself, for those who cannot see its death.
        assert not place()
    # The kernel tells of those who could not say it themselves.
    with gpulock.lease(gpus=2, max_wait_time=LONG):
        pass
    assert not place()


def test_the_end_of_the_interpreter_does_not_wait_for_a_silent_store(
    redis: PrivateRedis, program: Start
) -> None:
    process = program(
        "import os, signal, gpulock\n"
        "held = gpulock.Client().acquire()\n"
        f"os.kill({redis.process.pid}, signal.SIGSTOP)\n"
    )
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode == 0, errors
