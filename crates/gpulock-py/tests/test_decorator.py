"""`@gpu_lock()` on every kind of callable, and in a task queue."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn

import celery
import gpulock
import pytest
from gpulock import _attempt, gpu_lock
from gpulock.testing import StoreForTests

Look = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def gpulock_gpus() -> int:
    return 2


def held() -> list[int] | None:
    """The GPUs that are held around the caller; None if it is outside."""
    try:
        return gpulock.current().gpus
    except gpulock.GpuLockError:
        return None


# --- kinds of callables -----------------------------------------------------------------------


@gpu_lock
def bare(a: int, *, b: str = "x") -> tuple[int, str, list[int] | None]:
    """Its documentation."""
    return a, b, held()


@gpu_lock()
def with_parentheses(a: int, b: int = 2) -> tuple[int, list[int] | None]:
    return a + b, held()


class Service:
    @gpu_lock(gpus=[1])
    def method(self, video: str) -> tuple[str, list[int] | None]:
        return video, held()

    @gpu_lock()
    @staticmethod
    def static_below(a: int) -> tuple[int, list[int] | None]:
        return a, held()

    @staticmethod
    @gpu_lock()
    def static_above(a: int) -> tuple[int, list[int] | None]:
        return a, held()

    @gpu_lock()
    @classmethod
    def class_below(cls, a: int) -> tuple[str, int, list[int] | None]:
        return cls.__name__, a, held()

    @classmethod
    @gpu_lock()
    def class_above(cls, a: int) -> tuple[str, int, list[int] | None]:
        return cls.__name__, a, held()

    @gpu_lock()
    async def coroutine(self, a: int) -> tuple[int, list[int] | None]:
        await asyncio.sleep(0)
        return a, held()

    @gpu_lock()
    def __call__(self, a: int) -> tuple[int, list[int] | None]:
        return a, held()


@gpu_lock(lock_key="gpu_lock:1", timeout=600, poll_interval=0.5, max_wait_time=300)
def older_signature() -> list[int] | None:
    return held()


def test_functions_and_methods(store: StoreForTests, leases: Look) -> None:
    assert bare(1, b="y") == (1, "y", [0])
    assert with_parentheses(1) == (3, [0])
    service = Service()
    assert service.method("v") == ("v", [1])
    assert service.static_below(1) == Service.static_below(1) == (1, [0])
    assert service.static_above(1) == (1, [0])
    assert service.class_below(1) == Service.class_below(1) == ("Service", 1, [0])
    assert service.class_above(1) == ("Service", 1, [0])
    assert service(4) == (4, [0])
    assert older_signature() == [1]
    assert asyncio.run(service.coroutine(5)) == (5, [0])
    assert leases() == []
    assert held() is None


def test_what_can_be_called_can_be_decorated(store: StoreForTests) -> None:
    class Model:
        def __call__(self, a: int) -> tuple[int, list[int] | None]:
            return a, held()

    class AsyncModel:
        async def __call__(self, a: int) -> tuple[int, list[int] | None]:
            return a, held()

    def plain(a: int, b: int) -> tuple[int, int, list[int] | None]:
        return a, b, held()

    async def slow(a: int, b: int) -> tuple[int, int, list[int] | None]:
        return a, b, held()

    assert gpu_lock(Model())(2) == (2, [0])
    assert asyncio.run(gpu_lock(AsyncModel())(2)) == (2, [0])
    assert gpu_lock(functools.partial(plain, 1))(2) == (1, 2, [0])
    assert asyncio.run(gpu_lock(functools.partial(slow, 1))(2)) == (1, 2, [0])
    assert gpu_lock(lambda: held())() == [0]


@pytest.mark.parametrize("nothing", [type("Model", (), {}), 3, "gpu_lock:0"])
def test_anything_else_cannot(nothing: object) -> None:
    with pytest.raises(TypeError):
        gpu_lock()(nothing)  # type: ignore[type-var]


def test_signatures_and_names_are_kept() -> None:
    def plain(a: int, *, b: str = "x") -> str:
        """Its documentation."""
        return ""

    async def coroutine(a: int) -> None: ...

    def generator(a: int) -> Iterator[int]:
        yield a

    async def async_generator(a: int) -> AsyncIterator[int]:
        yield a

    for function in (plain, coroutine, generator, async_generator):
        locked = gpu_lock()(function)
        assert inspect.signature(locked) == inspect.signature(function)
        assert inspect.getfullargspec(locked) == inspect.getfullargspec(function)
        assert locked.__name__ == function.__name__
        assert locked.__doc__ == function.__doc__
        for is_of in (
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
        ):
            assert is_of(locked) == is_of(function)
    assert list(inspect.signature(Service().method).parameters) == ["video"]


def test_the_task_is_called_after_the_function(store: StoreForTests) -> None:
    seen: list[str] = []
    gpu_lock()(lambda: seen.append(gpulock.current().task))()
    gpu_lock(task="named")(lambda: seen.append(gpulock.current().task))()
    here = f"{__name__}.test_the_task_is_called_after_the_function.<locals>.<lambda>"
    assert seen == [here, "named"]


def test_exceptions_pass_through(store: StoreForTests, leases: Look) -> None:
    @gpu_lock()
    def fail(error: BaseException) -> NoReturn:
        raise error

    for error in (KeyError("x"), KeyboardInterrupt(), GeneratorExit()):
        with pytest.raises(type(error)) as caught:
            fail(error)
        assert caught.value is error
        assert leases() == []


def test_recursion_enters_the_lease_again(store: StoreForTests) -> None:
    @gpu_lock()
    def down(depth: int) -> int:
        return len(store.status()["leases"]) if depth == 0 else down(depth - 1)

    assert down(5) == 1


def test_threads_take_turns(store: StoreForTests) -> None:
    inside: list[int] = []
    most: list[int] = []

    @gpu_lock(poll_interval=0.5)
    def work() -> None:
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


# --- generators -------------------------------------------------------------------------------


def test_a_generator_holds_while_it_lives(store: StoreForTests, leases: Look) -> None:
    got: list[Any] = []

    @gpu_lock()
    def frames(count: int) -> Iterator[Any]:
        for frame in range(count):
            got.append((yield frame, held()))
        return "end"

    running = frames(2)
    assert leases() == []
    assert next(running) == (0, [0])
    assert held() is None
    assert len(leases()) == 1
    assert running.send("a") == (1, [0])
    with pytest.raises(StopIteration) as end:
        running.send("b")
    assert end.value.value == "end"
    assert got == ["a", "b"]
    assert leases() == []


def test_a_generator_can_be_closed_and_thrown_into(store: StoreForTests, leases: Look) -> None:
    ended: list[str] = []

    @gpu_lock()
    def frames() -> Iterator[Any]:
        try:
            while True:
                try:
                    yield held()
                except KeyError:
                    yield "caught"
        finally:
            ended.append(str(held()))

    running = frames()
    assert next(running) == [0]
    assert running.throw(KeyError("x")) == "caught"
    assert len(leases()) == 1
    running.close()
    assert ended == ["[0]"]
    assert leases() == []

    running = frames()
    next(running)
    with pytest.raises(ZeroDivisionError):
        running.throw(ZeroDivisionError())
    assert leases() == []


def test_a_generator_that_nobody_wants_any_more_gives_back(
    store: StoreForTests, leases: Look
) -> None:
    @gpu_lock()
    def frames() -> Iterator[int]:
        yield from range(3)

    for _ in frames():
        assert leases()
        break
    assert leases() == []


def test_two_generators_side_by_side(store: StoreForTests) -> None:
    @gpu_lock(gpus=1, reentrant=False)
    def frames() -> Iterator[Any]:
        yield held()
        yield held()

    assert list(zip(frames(), frames())) == [([0], [1]), ([0], [1])]


def test_an_asynchronous_generator(store: StoreForTests, leases: Look) -> None:
    ended: list[Any] = []

    @gpu_lock()
    async def frames() -> AsyncIterator[Any]:
        try:
            while True:
                try:
                    ended.append((yield held()))
                except KeyError:
                    yield "caught"
        finally:
            await asyncio.sleep(0)
            ended.append(held())

    async def main() -> None:
        running = frames()
        assert await running.__anext__() == [0]
        assert held() is None
        assert await running.asend("a") == [0]
        assert await running.athrow(KeyError("x")) == "caught"
        assert len(leases()) == 1
        await running.aclose()
        assert leases() == []
        assert ended == ["a", [0]]

        seen = [frame async for frame in short()]
        assert seen == [[0], [0]]
        assert leases() == []

    @gpu_lock()
    async def short() -> AsyncIterator[Any]:
        yield held()
        yield held()

    asyncio.run(main())


# --- when -------------------------------------------------------------------------------------


def by_device(device: str) -> bool:
    return device == "cuda"


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (True, True),
        (False, False),
        (by_device, True),
        (lambda: True, True),
        (lambda: 0, False),
        (lambda video, device: device == "cuda" and video == "v", True),
        (lambda *args, **kwargs: args == ("v",) and kwargs == {"device": "cuda"}, True),
        (lambda first: first == "v", True),
    ],
)
def test_conditional_locking(store: StoreForTests, when: Any, expected: bool) -> None:
    @gpu_lock(when=when)
    def detect(video: str, device: str = "cpu") -> Any:
        return held()

    assert (detect("v", device="cuda") is not None) == expected


def test_conditional_locking_of_every_kind(store: StoreForTests) -> None:
    @gpu_lock(when=by_device)
    def plain(video: str, device: str = "cpu") -> Any:
        return held()

    @gpu_lock(when=by_device)
    async def coroutine(video: str, device: str = "cpu") -> Any:
        return held()

    @gpu_lock(when=by_device)
    def generator(video: str, device: str = "cpu") -> Iterator[Any]:
        yield held()

    @gpu_lock(when=by_device)
    async def asynchronous(video: str, device: str = "cpu") -> AsyncIterator[Any]:
        yield held()

    async def only(frames: AsyncIterator[Any]) -> Any:
        return [frame async for frame in frames]

    for device, expected in (("cpu", None), ("cuda", [0])):
        assert plain("v", device) == expected
        assert asyncio.run(coroutine("v", device)) == expected
        assert list(generator("v", device)) == [expected]
        assert asyncio.run(only(asynchronous("v", device))) == [expected]
    assert plain("v") is None
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        plain()  # type: ignore[call-arg]


def test_a_call_without_the_lock_asks_no_store(
    store: StoreForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPULOCK_STORE", "nonsense:")

    @gpu_lock(when=by_device)
    def detect(device: str) -> str:
        return device

    assert detect("cpu") == "cpu"
    with pytest.raises(gpulock.ConfigError):
        detect("cuda")


# --- in a task queue --------------------------------------------------------------------------


class ComeBack(Exception):
    """What a queue raises to run a task again."""


class Copy(gpulock.DuplicateTask):
    """A duplicate in the form that the queue wants."""


class Attempt:
    """A run of a task in a queue that is a dictionary."""

    def __init__(self, lease_id: str, run: int, waited: float = 0.0) -> None:
        self.task = "app.detect"
        self.lease_id, self.run, self.waited = lease_id, run, waited
        self.can_retry, self.comes_back_within = True, 60.0
        self.told: list[Any] = []

    def granted(self) -> None:
        self.told.append("granted")

    def come_back(self, busy: gpulock.GpuLockTimeout, expected: float | None) -> NoReturn:
        self.told.append(("come_back", type(busy)))
        raise ComeBack from busy

    def duplicate(self, error: gpulock.DuplicateTask) -> gpulock.DuplicateTask:
        return Copy(*error.args)

    def close(self) -> None:
        self.told.append("close")


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Attempt]:
    """The next attempts that the decorator finds itself in; none when the list is empty."""
    coming: list[Attempt] = []
    monkeypatch.setattr(_attempt, "current", lambda _function: coming.pop(0) if coming else None)
    return coming


ID = "0123456789abcdef0123456789abcdef"


def test_a_task_has_the_id_and_name_of_its_queue(
    store: StoreForTests, attempts: list[Attempt]
) -> None:
    attempt = Attempt(ID, 1)
    attempts.append(attempt)

    @gpu_lock()
    def detect() -> tuple[str, str]:
        assert attempt.told == ["granted"]
        return gpulock.current().lease_id, gpulock.current().task

    assert detect() == (ID, "app.detect")
    assert attempt.told == ["granted", "close"]


def test_a_second_delivery_is_a_duplicate(store: StoreForTests, attempts: list[Attempt]) -> None:
    second = Attempt(ID, 2)

    @gpu_lock(reentrant=False)
    def detect(first: bool) -> None:
        if first:
            attempts.append(second)
            detect(False)

    attempts.append(Attempt(ID, 1))
    with pytest.raises(Copy, match="another run of this task"):
        detect(True)
    assert second.told == ["close"]


def test_a_task_that_waits_by_retry_keeps_its_place(
    store: StoreForTests, attempts: list[Attempt]
) -> None:
    @gpu_lock(wait="retry")
    def detect() -> str:
        return gpulock.current().lease_id

    with store.held_by_somebody_else(gpus=["0"]):
        for run in (1, 2):
            attempt = Attempt(ID, run)
            attempts.append(attempt)
            with pytest.raises(ComeBack):
                detect()
            assert attempt.told == [("come_back", gpulock.GpuLockTimeout), "close"]
            assert [waiter["lease_id"] for waiter in store.status()["queue"]] == [ID]
    attempts.append(Attempt(ID, 3))
    assert detect() == ID


def test_a_task_that_has_waited_for_too_long_gives_its_place_up(
    store: StoreForTests, attempts: list[Attempt]
) -> None:
    @gpu_lock(wait="retry", max_wait_time=100)
    def detect() -> None:
        pytest.fail("it was not free")

    with store.held_by_somebody_else(gpus=["0"], task="asr"):
        attempts.append(Attempt(ID, 1))
        with pytest.raises(ComeBack):
            detect()
        attempts.append(Attempt(ID, 2, waited=100.5))
        with pytest.raises(gpulock.GpuLockTimeout, match="within 100s") as caught:
            detect()
        assert store.status()["queue"] == []
    assert caught.value.waited == 100.5
    assert caught.value.holder is not None


def test_a_task_that_cannot_come_back_waits(store: StoreForTests, attempts: list[Attempt]) -> None:
    @gpu_lock(wait="retry", max_wait_time=0.05)
    def detect() -> None:
        pytest.fail("it was not free")

    with store.held_by_somebody_else(gpus=["0"]):
        attempt = Attempt(ID, 1)
        attempt.can_retry = False
        attempts.append(attempt)
        with pytest.raises(gpulock.GpuLockTimeout):
            detect()
    assert attempt.told == ["close"]


def test_above_a_task_of_celery_it_says_where_it_belongs() -> None:
    app = celery.Celery("tests", broker="memory://", set_as_current=False)

    def detect() -> None: ...

    for task in (app.task(detect), app.task(detect, lazy=False)):
        with pytest.raises(TypeError, match=r"put @app.task above @gpu_lock\(\)"):
            gpu_lock()(task)


def test_below_a_task_of_celery_arguments_are_still_checked(store: StoreForTests) -> None:
    app = celery.Celery("tests", broker="memory://", set_as_current=False)

    @app.task(bind=True)
    @gpu_lock()
    def detect(self: Any, video: str) -> tuple[str, Any]:
        return video, held()

    assert detect("v") == ("v", [0])
    with pytest.raises(TypeError):
        detect.apply_async(args=())


# --- nothing is locked ------------------------------------------------------------------------


def test_disabled_locks_nothing(
    store: StoreForTests,
    leases: Look,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from gpulock import _process

    monkeypatch.setattr(_process._clients, "told_disabled", False)
    monkeypatch.setenv("GPULOCK_DISABLED", "1")
    with store.held_by_somebody_else(gpus=2):
        for _ in range(2):
            with gpulock.lease(gpus=[1], task="ocr") as lease:
                assert (lease.gpus, lease.token, lease.task) == ([1], 0, "ocr")
                assert lease.visible_devices == "1"
                assert not lease.lost
                assert not lease.is_locked
                lease.check()
                lease.progress(5)
                assert gpulock.current() is lease
        assert bare(1) == (1, "x", [0])
        assert gpulock.Client().acquire(gpus=2).gpus == [0, 1]
    assert caplog.text.count("this process takes no locks") == 1
    assert os.environ["GPULOCK_DISABLED"] == "1"


def test_run_unlocked_is_an_explicit_choice(
    store: StoreForTests, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GPULOCK_STORE", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("GPULOCK_GPU_LOCK__STORE_PATIENCE", "0.1")

    def work() -> bool:
        return gpulock.current().is_locked

    with pytest.raises(gpulock.StoreUnavailable):
        gpu_lock()(work)()
    assert gpu_lock(on_store_error="run_unlocked")(work)() is False
    assert "WITHOUT a lock on GPU 0" in caplog.text


def test_run_unlocked_by_configuration(
    store: StoreForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPULOCK_STORE", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("GPULOCK_GPU_LOCK__STORE_PATIENCE", "0.1")
    monkeypatch.setenv("GPULOCK_GPU_LOCK__ON_STORE_ERROR", "run_unlocked")
    assert bare(1) == (1, "x", [0])
    with pytest.raises(gpulock.StoreUnavailable), gpulock.lease(on_store_error="fail"):
        pytest.fail("there is no store")


def test_waiting_for_the_store(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPULOCK_GPU_LOCK__STORE_PATIENCE", "0.1")
    redis.kill()
    threading.Timer(0.5, redis.start).start()
    with gpulock.lease(on_store_error="wait", max_wait_time=60) as lease:
        assert lease.is_locked
