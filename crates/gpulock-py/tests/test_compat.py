"""The older names, used as the older code uses them, on the embedded store."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gpulock
import pytest
from gpulock import _process
from gpulock.compat import (
    SmartGpuLockManager,
    get_gpu_lock_config,
    get_gpu_lock_health_summary,
    get_gpu_lock_status,
    gpu_lock,
    lock_manager,
    record_critical_failure,
    release_gpu_lock,
    send_alert,
    start_task_heartbeat,
    stop_task_heartbeat,
    update_task_heartbeat,
)

KEY = "gpu_lock:0"
# Longer than anything takes that a test waits for, in seconds.
LONG = 30.0


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store with two GPUs and an older configuration."""
    file = tmp_path / "config.yml"
    log = tmp_path / "critical" / "failures.jsonl"
    file.write_text(
        "gpu_lock: {poll_interval: 2, max_wait_time: 20, lock_timeout: 600}\n"
        "gpu_lock_monitor: {timeout_levels: {warning: 15}}\n"
        f"critical_failure_log: {log}\n"
        "celery: {broker: somewhere}\n"
    )
    monkeypatch.setenv("GPULOCK_CONFIG", str(file))
    monkeypatch.setenv("GPULOCK_STORE", f"sqlite://{tmp_path}/gpulock.db")
    monkeypatch.setenv("GPULOCK_GPUS", "0,1")
    monkeypatch.delenv("GPULOCK_LEASE_ID", raising=False)
    _process.forget_clients()
    yield tmp_path
    _process.forget_clients()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def holder(lock_key: str = KEY) -> Any:
    return get_gpu_lock_status(lock_key)["lock_holder"]


def elsewhere(work: Callable[[], Any]) -> Any:
    """What `work` gives in another thread."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(work())
        except Exception as error:  # noqa: BLE001 (raised again below)
            answers.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(LONG)
    assert answers, "it did not end"
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


# --- the three usages ---------------------------------------------------------------------------


def test_the_decorator_on_a_method() -> None:
    class Detector:
        @gpu_lock(lock_key="gpu_lock:0", timeout=600, poll_interval=0.5, max_wait_time=300)
        def detect(self, video: str, *, rate: int = 1) -> tuple[str, int, str]:
            """Looks for subtitles."""
            return video, rate, holder()

        @gpu_lock()
        def again(self) -> Any:
            return holder()

        @gpu_lock
        def bare(self) -> Any:
            return holder()

    detector = Detector()
    video, rate, who = detector.detect("a.mp4", rate=2)
    assert (video, rate) == ("a.mp4", 2)
    assert who.endswith("Detector.detect")
    assert Detector.detect.__doc__ == "Looks for subtitles."
    assert detector.again().endswith("Detector.again")
    assert detector.bare().endswith("Detector.bare")
    assert holder() is None


def test_the_decorator_says_that_it_gave_up() -> None:
    @gpu_lock("gpu_lock:1", 600, 0.5, 0)
    def work() -> None:
        raise AssertionError("it must not run")

    with (
        gpulock.lease(lock_key="gpu_lock:1", task="other"),
        pytest.raises(gpulock.GpuLockTimeout, match="GPU_LOCK_TIMEOUT") as caught,
    ):
        elsewhere(work)
    assert caught.value.holder is not None
    assert caught.value.holder["task"] == "other"


def test_the_manual_lock() -> None:
    config = get_gpu_lock_config()
    seen = None
    if lock_manager.acquire_lock_with_smart_polling("ocr", "gpu_lock:0", config):
        try:
            seen = holder()
        finally:
            lock_manager.release_lock("ocr", "gpu_lock:0")
    assert seen == "ocr"
    assert holder() is None


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_lock_by_device(device: str) -> None:
    def run() -> Any:
        return holder()

    if device == "cuda":
        assert lock_manager.acquire_lock_with_smart_polling("asr", "gpu_lock:0", {})
        try:
            assert run() == "asr"
        finally:
            assert lock_manager.release_lock("asr", "gpu_lock:0", "normal")
    else:
        assert run() is None
    assert lock_manager.get_statistics()["total_attempts"] == (device == "cuda")


# --- whose lock it is ---------------------------------------------------------------------------


def test_a_busy_gpu_is_false_and_nothing_else_is() -> None:
    with gpulock.lease(lock_key=KEY, task="other"):
        config = {"max_wait_time": 0.2, "poll_interval": 0.1, "lock_timeout": 60}
        manager = SmartGpuLockManager()
        assert not elsewhere(lambda: manager.acquire_lock_with_smart_polling("ocr", KEY, config))
        assert holder() == "other"
    with pytest.raises(ValueError, match="lock key"):
        lock_manager.acquire_lock_with_smart_polling("ocr", "gpu:0")
    with pytest.raises(gpulock.GpuLockError, match="GPU 7"):
        lock_manager.acquire_lock_with_smart_polling("ocr", "gpu_lock:7")


def test_a_store_that_cannot_be_used_is_no_busy_gpu(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPULOCK_STORE", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("GPULOCK_GPU_LOCK__STORE_PATIENCE", "0")
    _process.forget_clients()
    with pytest.raises(gpulock.StoreUnavailable):
        lock_manager.acquire_lock_with_smart_polling("ocr", KEY)
    assert "cannot be reached" in get_gpu_lock_status(KEY)["error"]
    summary = get_gpu_lock_health_summary()
    assert summary["overall_status"] == "critical"
    assert summary["store_connected"] is False


def test_two_runs_of_one_task_do_not_free_each_other() -> None:
    assert lock_manager.acquire_lock_with_smart_polling("ocr", KEY)

    def other_run() -> tuple[bool, bool]:
        taken = lock_manager.acquire_lock_with_smart_polling("ocr", KEY, {"max_wait_time": 0})
        # The older code sometimes frees what it never got.
        return taken, lock_manager.release_lock("ocr", KEY)

    assert elsewhere(other_run) == (False, False)
    assert holder() == "ocr"
    assert lock_manager.release_lock("ocr", KEY)
    assert holder() is None


def test_asyncio_tasks_are_told_apart() -> None:
    async def run(name: str) -> tuple[bool, bool]:
        taken = lock_manager.acquire_lock_with_smart_polling(name, KEY, {"max_wait_time": 0})
        await asyncio.sleep(0)
        return taken, lock_manager.release_lock(name, KEY)

    async def both() -> list[tuple[bool, bool]]:
        return await asyncio.gather(run("ocr"), run("ocr"))

    assert asyncio.run(both()) == [(True, True), (False, False)]


def test_what_is_not_held_is_not_freed() -> None:
    assert not lock_manager.release_lock("ocr", KEY)
    with gpulock.lease(lock_key=KEY, task="ocr"):
        assert not elsewhere(lambda: lock_manager.release_lock("ocr", KEY))
        assert holder() == "ocr"
    assert lock_manager.acquire_lock_with_smart_polling("ocr", KEY)
    assert not lock_manager.release_lock("asr", KEY)
    assert not lock_manager.release_lock("ocr", "gpu_lock:1")
    assert lock_manager.release_lock("ocr", KEY)
    assert not lock_manager.release_lock("ocr", KEY)
    assert lock_manager.exception_stats["ownership_violations"] == 0


def test_a_lock_inside_of_itself() -> None:
    assert lock_manager.acquire_lock_with_smart_polling("outer", KEY)
    assert lock_manager.acquire_lock_with_smart_polling("inner", KEY, {"max_wait_time": 0})
    assert lock_manager.release_lock("inner", KEY)
    assert holder() == "outer"
    assert lock_manager.release_lock("outer", KEY)
    assert holder() is None


def test_locks_can_be_freed_in_any_order() -> None:
    for task, key in (("a", "gpu_lock:0"), ("b", "gpu_lock:1")):
        assert lock_manager.acquire_lock_with_smart_polling(task, key)
    assert lock_manager.release_lock("a", "gpu_lock:0")
    assert (holder("gpu_lock:0"), holder("gpu_lock:1")) == (None, "b")
    assert lock_manager.release_lock("b", "gpu_lock:1")
    with pytest.raises(gpulock.GpuLockError):
        gpulock.current()
    assert holder("gpu_lock:1") is None


def test_a_child_does_not_free_the_lock_of_its_parent() -> None:
    assert lock_manager.acquire_lock_with_smart_polling("ocr", KEY)
    child = os.fork()
    if child == 0:
        freed = True
        try:
            freed = lock_manager.release_lock("ocr", KEY)
        finally:
            os._exit(int(freed))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert holder() == "ocr"
    assert lock_manager.release_lock("ocr", KEY)


# The unreleased lease warns of itself, as it should.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_thread_that_ends_with_a_lock_gives_it_back() -> None:
    assert elsewhere(lambda: lock_manager.acquire_lock_with_smart_polling("ocr", KEY))
    until(lambda: holder() is None)


def test_a_lock_that_was_lost_is_not_released(caplog: pytest.LogCaptureFixture) -> None:
    assert lock_manager.acquire_lock_with_smart_polling("ocr", KEY)
    assert release_gpu_lock(KEY, reason="maintenance")
    until(lambda: gpulock.current().lost)
    assert not lock_manager.release_lock("ocr", KEY)
    assert "had lost" in caplog.text
    # It has said that it is done with the GPU.
    until(lambda: holder() is None)


def test_where_nothing_is_locked_everybody_gets_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lock_manager.acquire_lock_with_smart_polling("ocr", KEY)
    monkeypatch.setenv("GPULOCK_DISABLED", "1")
    assert elsewhere(lambda: lock_manager.acquire_lock_with_smart_polling("asr", KEY))
    monkeypatch.delenv("GPULOCK_DISABLED")
    assert lock_manager.release_lock("ocr", KEY)
    assert lock_manager.get_statistics()["total_attempts"] == 1


# --- figures ------------------------------------------------------------------------------------


def test_figures_come_from_the_store(place: Path) -> None:
    stats = lock_manager.get_statistics()
    assert (stats["total_attempts"], stats["success_rate"], stats["timeout_rate"]) == (0, 1.0, 0.0)
    assert lock_manager.get_lock_health()["status"] == "healthy"

    def give_up() -> bool:
        return lock_manager.acquire_lock_with_smart_polling("z", KEY, {"max_wait_time": 0.05})

    for task in ("a", "b", "c"):
        assert lock_manager.acquire_lock_with_smart_polling(task, KEY)
        assert not elsewhere(give_up)
        assert lock_manager.release_lock(task, KEY)
    code = (
        "import json; from gpulock.compat import lock_manager;"
        "print(json.dumps([lock_manager.get_statistics(), lock_manager.get_lock_history(3)]))"
    )
    elsewhere_stats, history = json.loads(_python(code))
    for stats in (lock_manager.get_statistics(), elsewhere_stats):
        assert stats["total_attempts"] == 6
        assert stats["successful_acquisitions"] == stats["execution_count"] == 3
        assert stats["timeouts"] == 3
        assert stats["success_rate"] == stats["timeout_rate"] == stats["recent_success_rate"] == 0.5
        assert stats["last_lock_holder"] == "c"
        assert stats["average_execution_time"] > 0
    assert [(it["task_name"], it["success"]) for it in history] == [
        ("z", False),
        ("c", True),
        ("z", False),
    ]
    assert history[1]["lock_keys"] == [KEY]
    assert history[0]["duration"] >= 0.05
    health = lock_manager.get_lock_health()
    assert health["status"] == "warning"
    assert len(health["issues"]) == 3


def test_the_state_of_a_lock() -> None:
    free = get_gpu_lock_status()
    assert (free["is_locked"], free["lock_type"], free["lock_age"]) == (False, "free", None)
    with gpulock.lease(lock_key="gpu_lock:1", task="ocr"):
        status = get_gpu_lock_status("gpu_lock:1")
        assert status["lock_key"] == "gpu_lock:1"
        assert (status["is_locked"], status["lock_type"]) == (True, "active")
        assert status["lock_holder"] == "ocr"
        assert 0 <= status["lock_age"] < LONG
        assert 0 < status["ttl_seconds"] <= 30
        assert status["health"]["status"] == "healthy"
        assert status["recent_history"][-1]["task_name"] == "ocr"
        assert get_gpu_lock_status("gpu_lock:0")["is_locked"] is False
        summary = get_gpu_lock_health_summary("gpu_lock:1")
    assert summary["overall_status"] == "healthy"
    assert summary["lock_holder"] == "ocr"
    assert summary["store_connected"] is True
    assert (summary["zombie_locks"], summary["long_held_locks"]) == ([], [])
    assert set(summary) == {
        *("overall_status", "issues_count", "issues", "total_attempts", "success_rate"),
        *("timeout_rate", "average_execution_time", "recent_success_rate", "lock_holder"),
        *("lock_age", "timestamp", "store_connected", "zombie_locks", "long_held_locks"),
    }


def test_a_lock_that_is_held_for_long_is_critical(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPULOCK_GPU_LOCK_MONITOR__HEALTH_THRESHOLDS__MAX_LOCK_AGE", "0.001")
    _process.forget_clients()
    with gpulock.lease(lock_key=KEY, task="ocr"):
        until(lambda: get_gpu_lock_health_summary()["overall_status"] == "critical")
        summary = get_gpu_lock_health_summary()
    assert summary["long_held_locks"] == [KEY]
    assert any("ocr" in issue for issue in summary["issues"])


def test_exception_stats_are_those_of_the_store(caplog: pytest.LogCaptureFixture) -> None:
    stats = lock_manager.exception_stats
    assert (
        dict(stats)
        == stats.copy()
        == {
            "normal_release_failures": 0,
            "emergency_releases": 0,
            "ownership_violations": 0,
            "release_script_errors": 0,
        }
    )
    with caplog.at_level(logging.INFO, logger="gpulock"):
        stats["emergency_releases"] += 1
    assert stats["emergency_releases"] == 0
    assert "is counted by the store" in caplog.text
    with pytest.raises(KeyError):
        stats["others"]


def test_the_configuration_in_its_older_shape() -> None:
    config = get_gpu_lock_config()
    assert (config["max_wait_time"], config["lock_timeout"], config["poll_interval"]) == (
        20,
        600,
        2,
    )
    assert config["exponential_backoff"] is True
    assert config["gpu_lock"]["max_wait_time"] == 20
    assert config["gpu_lock_monitor"]["timeout_levels"]["warning"] == 15
    assert config["gpu_lock_monitor"]["heartbeat"] == {"interval": 10, "timeout": 30}


# --- freeing by force ---------------------------------------------------------------------------


def test_release_gpu_lock_takes_the_lease_that_it_found(caplog: pytest.LogCaptureFixture) -> None:
    assert not release_gpu_lock(KEY)
    with pytest.raises(gpulock.LeaseLost), gpulock.lease(lock_key=KEY, task="ocr") as held:
        assert not release_gpu_lock(KEY, task_name="asr")
        assert not held.lost
        assert release_gpu_lock(KEY, task_name="ocr", reason="it hangs")
        until(lambda: held.lost)
        lease_id = held.lease_id
        # Its process lives, so nobody else gets the GPU yet, and there is nothing more to take.
        assert not release_gpu_lock(KEY)
    assert lease_id in caplog.text
    assert "it hangs" in caplog.text
    assert lock_manager.exception_stats["ownership_violations"] <= 1


# --- heartbeats and alerts ----------------------------------------------------------------------


def _progress() -> tuple[Any, Any]:
    lease = gpulock.Client().status()["leases"][0]
    return lease.get("progress"), lease.get("message")


def test_a_heartbeat_tells_the_progress_of_the_lease() -> None:
    assert lock_manager.acquire_lock_with_smart_polling("ocr", KEY)
    try:
        assert start_task_heartbeat("task-1", interval=5)
        assert update_task_heartbeat("task-1", "running", 45, "frame 100")
        until(lambda: _progress() == (45.0, "frame 100"))
        assert update_task_heartbeat("task-1", "completed", message="done")
        until(lambda: _progress() == (100.0, "completed: done"))
        with pytest.raises(ValueError, match="status"):
            update_task_heartbeat("task-1", "asleep")
        assert stop_task_heartbeat("task-1")
    finally:
        lock_manager.release_lock("ocr", KEY)

    @gpu_lock()
    def work() -> bool:
        return update_task_heartbeat("task-2", "running", 10, "")

    assert work()


@pytest.mark.parametrize(
    ("level", "logged"),
    [("P0", "CRITICAL"), ("P1", "ERROR"), ("P2", "WARNING"), ("info", "INFO"), (None, "ERROR")],
)
def test_an_alert_goes_to_the_log(
    level: str | None, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"lock_key": KEY, **({"level": level} if level else {})}
    with caplog.at_level(logging.INFO, logger="gpulock"):
        send_alert("gpu_lock_emergency_release", data)
    record = caplog.records[-1]
    assert record.levelname == logged
    assert "gpu_lock_emergency_release" in record.getMessage()
    assert KEY in record.getMessage()


def _raised() -> list[dict[str, Any]]:
    return [it for it in gpulock.Client().history(limit=10) if it["event"] == "raised"]


def test_an_alert_is_written_to_the_store_with_the_lease_under_which_it_is_raised() -> None:
    send_alert("ocr_model_broken", {"level": "p2", "message": "no weights", "model": "v3", "n": 7})
    until(_raised)
    (raised,) = _raised()
    assert raised["alert"] == {
        "name": "ocr_model_broken",
        "urgency": "P2",
        "message": "no weights",
        "facts": {"model": "v3", "n": "7"},
    }
    assert "task" not in raised
    assert lock_manager.acquire_lock_with_smart_polling("ocr", KEY)
    try:
        send_alert("ocr_slow")
        until(lambda: len(_raised()) == 2)
        assert (_raised()[0]["task"], _raised()[0]["alert"]["urgency"]) == ("ocr", "P1")
    finally:
        lock_manager.release_lock("ocr", KEY)


def test_an_alert_that_cannot_be_passed_on_raises_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    send_alert("a" * 300, {"level": "loud", "message": "too long a name"})
    assert "could not be passed on" in caplog.text


def test_a_critical_failure_is_a_line_in_the_log_of_failures(place: Path) -> None:
    assert lock_manager.acquire_lock_with_smart_polling("ocr", KEY)
    try:
        lease_id, token = gpulock.current().lease_id, gpulock.current().token
        try:
            raise RuntimeError("the card fell off the bus")
        except RuntimeError as error:
            record_critical_failure(KEY, "ocr", error)
        until(lambda: "incident" in {it["event"] for it in gpulock.Client().history(limit=10)})
    finally:
        lock_manager.release_lock("ocr", KEY)
    record_critical_failure(KEY, "asr", ValueError("without a lease"))
    lines = (place / "critical" / "failures.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert (first["task"], first["lock_key"]) == ("ocr", KEY)
    assert (first["lease_id"], first["token"]) == (lease_id, token)
    assert "fell off the bus" in first["error"]
    assert "test_compat.py" in first["traceback"]
    assert (second["task"], second["lease_id"], second["token"]) == ("asr", "", 0)


def _python(code: str) -> str:
    import subprocess
    import sys

    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=LONG
    ).stdout
