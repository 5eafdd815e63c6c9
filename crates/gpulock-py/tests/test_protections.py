"""The three protections, step by step: with a native half and frameworks that do what a test says.

`test_guards.py` has them with the real ones.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpulock
import pytest
from conftest import until
from gpulock import Lease, critical, lease, memory, protections
from gpulock._gpulock import Failure
from gpulock._operation import block, finish
from gpulock._options import Request

Look = Callable[[], list[dict[str, Any]]]


# --- what the guards see, with a native half that does what a test says -----------------------


def failure(kind: str) -> Failure:
    one = Failure(kind, f"it is {kind}", None, 69, {})
    one.kind, one.message, one.hint, one.code, one.details = kind, f"it is {kind}", None, 69, {}
    return one


class Scene:
    """What happened, in order, and what is to happen next."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.release: BaseException | None = None
        self.by_name: list[bool | BaseException] = []
        self.in_wait: list[BaseException] = []


class FakeOperation:
    def __init__(self, scene: Scene, gain: Any) -> None:
        self._scene, self._gain = scene, gain

    def wait(self, timeout: float | None = None) -> bool:
        if self._scene.in_wait and timeout != 0:
            raise self._scene.in_wait.pop(0)
        return True

    def result(self) -> Any:
        if isinstance(self._gain, BaseException):
            raise self._gain
        return self._gain

    def cancel(self) -> None:
        self._scene.log.append("cancel")


class FakeClient:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def again(self) -> FakeClient:
        self._scene.log.append("again")
        return self

    def release_named(self, lease_id: str, token: int, task: str) -> FakeOperation:
        self._scene.log.append("release_named")
        assert (lease_id, token, task) == ("ab" * 16, 7, "ocr")
        return FakeOperation(self._scene, self._scene.by_name.pop(0))

    def report(self, lease_id: str, task: str, kind: str, error: str) -> FakeOperation:
        self._scene.log.append(kind)
        return FakeOperation(self._scene, None)


class FakeNative:
    lease_id, token, task, pool = "ab" * 16, 7, "ocr", "default"
    gpus, visible_devices, waited = [0], "0", 0.0

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.client = FakeClient(scene)

    def state(self) -> Any:
        return SimpleNamespace(health="held", lost_because=None, stop_reason=None, deadline_in=9.0)

    def release(self, lazily: bool = False) -> FakeOperation:
        self._scene.log.append("release")
        if self._scene.release is not None and not isinstance(self._scene.release, Failure):
            raise self._scene.release
        return FakeOperation(self._scene, self._scene.release)

    def retire(self) -> FakeOperation:
        self._scene.log.append("retire")
        return FakeOperation(self._scene, None)

    def abandon(self) -> None:
        self._scene.log.append("abandon")


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(protections, "_RETRY_PAUSE", 0.01)
    return Scene()


@pytest.fixture
def hook(scene: Scene) -> Iterator[list[BaseException]]:
    """What a user's hook raises; it writes itself down."""
    errors: list[BaseException] = []

    def free() -> None:
        scene.log.append("hook")
        if errors:
            raise errors[0]

    memory.on_release(free)
    yield errors
    memory.remove_hook(free)


def held(scene: Scene, log: Path | None = None) -> Lease:
    one = Lease(Request.parse("lease", {}), FakeNative(scene))  # type: ignore[arg-type]
    one.critical_failure_log = None if log is None else str(log)
    return one


def leave(one: Lease, body: BaseException | None = None) -> None:
    block(protections.leave(one, body))


def test_memory_first_then_the_release(scene: Scene, hook: list[BaseException]) -> None:
    leave(held(scene))
    assert scene.log == ["hook", "release"]


@pytest.mark.parametrize("error", [ValueError("out of memory"), SystemExit(3), KeyboardInterrupt()])
def test_a_failing_hook_never_stops_the_release(
    scene: Scene, hook: list[BaseException], error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    hook.append(error)
    body = KeyError("of the task")
    leave(held(scene), body)
    assert scene.log == ["hook", "release"]
    assert "freeing GPU memory failed" in caplog.text
    record = next(record for record in caplog.records if "freeing" in record.message)
    assert record.__dict__["lease_id"] == "ab" * 16
    assert record.__dict__["gpus"] == [0]


def test_an_error_of_the_clean_up_is_no_error_of_the_task(
    scene: Scene, hook: list[BaseException]
) -> None:
    hook.append(ValueError("out of memory"))
    leave(held(scene))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_who_interrupts_the_clean_up_is_heard_after_it(
    scene: Scene, hook: list[BaseException], interruption: type[BaseException]
) -> None:
    hook.append(interruption())
    with pytest.raises(interruption):
        leave(held(scene))
    assert scene.log == ["hook", "release"]


def test_interrupting_again_and_again_skips_no_release(scene: Scene) -> None:
    scene.in_wait = [KeyboardInterrupt(), KeyboardInterrupt(), ValueError("of a handler")]
    body = KeyboardInterrupt()
    leave(held(scene), body)
    assert scene.log == ["release"]
    assert scene.in_wait == []


def test_an_unconfirmed_release_is_tried_again_by_name(scene: Scene) -> None:
    scene.release = failure("store")
    scene.by_name = [failure("store"), failure("store"), True]
    leave(held(scene))
    assert scene.log == [
        "release",
        "normal_release_failure",
        *["again", "release_named"] * 3,
        "emergency_release",
    ]


@pytest.mark.parametrize("error", [RuntimeError("broken"), MemoryError(), OSError(24, "no files")])
def test_a_release_that_raises_anything_is_tried_again_too(scene: Scene, error: Exception) -> None:
    scene.release, scene.by_name = error, [True]
    leave(held(scene))
    assert scene.log[-3:] == ["again", "release_named", "emergency_release"]


def test_a_lease_that_is_gone_by_then_is_lost(scene: Scene) -> None:
    scene.release, scene.by_name = failure("store"), [False]
    with pytest.raises(gpulock.LeaseLost):
        leave(held(scene))
    assert "emergency_release" not in scene.log


def test_a_loss_is_no_failure_of_the_release(scene: Scene) -> None:
    scene.release = failure("lost")
    with pytest.raises(gpulock.LeaseLost):
        leave(held(scene))
    leave(held(scene), KeyError("of the task"))
    assert scene.log == ["release", "release"]


@pytest.fixture
def hopeless(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Nothing that is tried succeeds."""
    monkeypatch.setattr(protections, "RETRY_FOR", 0.05)
    scene.release = failure("store")
    scene.by_name = [failure("store") for _ in range(100)]
    return scene


def test_what_stays_unconfirmed_is_a_critical_failure(
    hopeless: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "new" / "failures.jsonl"
    leave(held(hopeless, file))
    leave(held(hopeless, file))
    assert hopeless.log[-2:] == ["abandon", "critical_failure"]
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert first.keys() == second.keys()
    assert first["pid"] > 0
    assert first["host"]
    assert first["time"].endswith("+00:00")
    assert (first["lock_key"], first["task"]) == ("gpu_lock:0", "ocr")
    assert (first["lease_id"], first["token"]) == ("ab" * 16, 7)
    assert "store" in first["error"]
    assert "Failure" in first["traceback"]
    critical_lines = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(critical_lines) == 2
    assert "could not be confirmed" in critical_lines[0].message


def test_giving_back_by_hand_says_that_it_was_not_confirmed(
    hopeless: Scene, tmp_path: Path
) -> None:
    with pytest.raises(gpulock.StoreUnavailable, match="could not be confirmed"):
        held(hopeless, tmp_path / "failures.jsonl").release()


def test_an_interrupted_retry_ends_at_once_and_is_written_down(
    hopeless: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protections, "RETRY_FOR", 3600.0)
    hopeless.by_name = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        leave(held(hopeless, tmp_path / "failures.jsonl"))
    assert hopeless.log[-2:] == ["abandon", "critical_failure"]
    assert (tmp_path / "failures.jsonl").exists()


def test_a_log_that_cannot_be_written_has_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    facts: dict[str, Any] = {"lock_key": "gpu_lock:0", "task": "t", "lease_id": "i", "token": 1}
    own = tmp_path / "state" / "gpulock" / "critical_failures.jsonl"
    assert critical.write_down(str(tmp_path / "file" / "log"), error="e", **facts) == str(own)
    assert json.loads(own.read_text())["error"] == "e"
    assert "cannot be written" in caplog.text
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert critical.write_down(str(tmp_path / "file" / "log"), error="e2", **facts) is None
    assert '"e2"' in caplog.text


def test_a_record_is_the_same_line_as_in_rust(tmp_path: Path) -> None:
    library = Path(__file__).parents[2] / "gpulock" / "tests" / "library"
    sample = json.loads((library / "critical_failure.jsonl").read_text(encoding="utf-8"))
    file = tmp_path / "log.jsonl"
    facts = {name: sample[name] for name in ("lock_key", "task", "lease_id", "token", "error")}
    critical.write_down(str(file), **facts)
    record = json.loads(file.read_text(encoding="utf-8"))
    assert list(record) == list(sample)
    assert re.sub(r"\d", "0", record["time"]) == re.sub(r"\d", "0", sample["time"])
    own = {"time": record["time"], "host": socket.gethostname(), "pid": os.getpid()}
    assert record == {**sample, **own}


def test_a_killed_process_keeps_its_gpu_until_it_is_gone(
    scene: Scene, hook: list[BaseException]
) -> None:
    leave(held(scene), SystemExit(1))
    assert scene.log == ["retire"]
    scene.log.clear()
    thread = threading.Thread(target=leave, args=(held(scene), SystemExit(1)))
    thread.start()
    thread.join()
    assert scene.log == ["hook", "release"]


def test_who_was_interrupted_before_still_tries_again(
    scene: Scene, hook: list[BaseException]
) -> None:
    hook.append(KeyboardInterrupt())
    scene.release, scene.by_name = failure("store"), [True]
    with pytest.raises(KeyboardInterrupt):
        leave(held(scene))
    assert scene.log[-3:] == ["again", "release_named", "emergency_release"]


def test_cancelling_in_the_clean_up_skips_no_release(
    scene: Scene, hook: list[BaseException]
) -> None:
    async def main() -> None:
        hook.append(asyncio.CancelledError())
        with pytest.raises(asyncio.CancelledError):
            await finish(protections.leave(held(scene), None))

    asyncio.run(main())
    assert scene.log == ["hook", "release"]


def test_cancelled_while_the_release_is_under_way(redis: Any, leases: Look) -> None:
    async def work(inside: asyncio.Event) -> None:
        async with lease():
            redis.stall()
            inside.set()

    async def main() -> None:
        inside = asyncio.Event()
        task = asyncio.create_task(work(inside))
        await inside.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.02)
        redis.go_on()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    client = gpulock.Client()
    assert client.status()["leases"] == []
    assert client.counters()["emergency_releases"] == 0


# --- memory -----------------------------------------------------------------------------------


class FakeFramework:
    """Writes down what is called, by its dotted name, and answers as told."""

    def __init__(self, log: list[str], answers: dict[str, Any], name: str = "") -> None:
        self._log, self._answers, self._name = log, answers, name

    def __getattr__(self, part: str) -> FakeFramework:
        if part.startswith("__"):
            raise AttributeError(part)
        name = f"{self._name}.{part}" if self._name else part
        return FakeFramework(self._log, self._answers, name)

    def __call__(self, *args: object) -> Any:
        self._log.append(self._name)
        answer = self._answers.get(self._name, self)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def put_in(monkeypatch: pytest.MonkeyPatch, name: str, **answers: Any) -> list[str]:
    """A framework that is imported already."""
    log: list[str] = []
    dotted = {key.replace("__", "."): value for key, value in answers.items()}
    monkeypatch.setitem(sys.modules, name, FakeFramework(log, dotted))  # type: ignore[arg-type]
    return log


def test_frameworks_that_are_imported_free_their_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = put_in(monkeypatch, "torch", cuda__is_initialized=True)
    paddle = put_in(monkeypatch, "paddle", device__is_compiled_with_cuda=True)
    tensorflow, keras = put_in(monkeypatch, "tensorflow"), put_in(monkeypatch, "keras")
    cupy = put_in(monkeypatch, "cupy")
    mxnet = put_in(monkeypatch, "mxnet", context__num_gpus=1)
    assert memory.free() == []
    assert torch == ["cuda.is_initialized", "cuda.empty_cache", "cuda.ipc_collect"]
    assert paddle == ["device.is_compiled_with_cuda", "device.cuda.empty_cache"]
    assert (tensorflow, keras) == ([], ["backend.clear_session"])
    assert cupy == [
        "get_default_memory_pool",
        "get_default_memory_pool.free_all_blocks",
        "get_default_pinned_memory_pool",
        "get_default_pinned_memory_pool.free_all_blocks",
    ]
    assert mxnet == ["context.num_gpus", "gpu", "gpu.empty_cache"]


def test_cuda_is_never_opened_for_this(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = put_in(monkeypatch, "torch", cuda__is_initialized=False)
    paddle = put_in(monkeypatch, "paddle", device__is_compiled_with_cuda=False)
    assert memory.free() == []
    assert torch == ["cuda.is_initialized"]
    assert paddle == ["device.is_compiled_with_cuda"]


def test_nothing_is_imported(program: Callable[[str], subprocess.Popen[str]]) -> None:
    text = "import sys\nfrom gpulock import memory\nbefore = set(sys.modules)\nmemory.free()\n"
    one = program(text + "print(sorted(set(sys.modules) - before))")
    assert one.communicate() == ("[]\n", "")


# --- with a real store ------------------------------------------------------------------------


def test_two_attempts_of_one_release_that_cross_are_no_loss(
    redis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "failures.jsonl"
    monkeypatch.setenv("GPULOCK_CRITICAL_FAILURE_LOG", str(file))
    monkeypatch.setenv("GPULOCK_GPU_LOCK__STORE_PATIENCE", "0.2")
    with lease(task="ocr"):
        redis.stall()
        threading.Timer(1.0, redis.go_on).start()
    client = gpulock.Client()
    until(lambda: client.counters()["emergency_releases"] == 1, "for the report")
    assert client.status()["leases"] == []
    assert not file.exists()
