"""Older and new workers share a GPU on one Redis server while they are replaced one by one."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gpulock
import pytest
import redis
from gpulock import _process
from gpulock.compat import get_gpu_lock_config, gpu_lock, lock_manager

KEY = "gpu_lock:0"
CHANNEL = f"gpu_lock:{KEY}"
# Longer than anything takes that a test waits for, in seconds.
LONG = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a private server that keeps a log of its writes."""
    program = shutil.which("redis-server")
    assert program, "redis-server is missing: install the package redis-server"
    folder = tmp_path_factory.mktemp("redis")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    keeps = ["--save", "", "--appendonly", "yes", "--appendfsync", "no"]
    process = subprocess.Popen([program, *where, *keeps], stdout=subprocess.DEVNULL)
    try:
        until(lambda: _answers(port))
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def database(server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """The database of the older workers, and an older configuration with one new line."""
    file = tmp_path / "config.yml"
    # Whoever is not woken would look again only after the test has failed.
    file.write_text(
        f"redis: {{host: 127.0.0.1, port: {server}, db_locks: 2}}\n"
        "gpu_lock: {poll_interval: 600, max_poll_interval: 600, claim_time: 700}\n"
        "gpu_lock_monitor: {timeout_levels: {warning: 1800}}\n"
        "compat: {legacy_keys: true}\n"
        "gpus: [0]\n"
    )
    monkeypatch.setenv("GPULOCK_CONFIG", str(file))
    for name in ("GPULOCK_STORE", "GPULOCK_GPUS", "REDIS_HOST", "REDIS_PORT", "REDIS_LOCK_DB"):
        monkeypatch.delenv(name, raising=False)
    with redis.Redis(port=server, db=2, decode_responses=True) as older:
        older.flushdb()
        _process.forget_clients()
        yield older
        _process.forget_clients()


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Older:
    """A worker of the older system, as far as others can see it."""

    def __init__(self, database: redis.Redis, task: str) -> None:
        self.database = database
        self.task = task

    def takes(self) -> bool:
        return bool(self.database.set(KEY, f"locked_by_{self.task}", nx=True, ex=3600))

    def releases(self) -> None:
        assert self.database.get(KEY) == f"locked_by_{self.task}"
        self.database.delete(KEY)
        news = {"event_type": "lock_released", "lock_key": KEY, "task_name": self.task}
        self.database.publish(CHANNEL, json.dumps({**news, "timestamp": time.time()}))


def test_a_new_worker_waits_for_an_older_one_and_is_woken_by_it(database: redis.Redis) -> None:
    older, seen = Older(database, "asr"), []

    @gpu_lock(lock_key=KEY)
    def ocr() -> None:
        seen.append((database.get(KEY), gpulock.current().lease_id))

    assert older.takes()
    new = threading.Thread(target=ocr)
    new.start()
    until(lambda: database.pubsub_numsub(CHANNEL)[0][1] == 1)
    assert not seen
    older.releases()
    new.join(LONG)
    value, lease_id = seen[0]
    assert value.startswith("locked_by_")
    assert value.endswith(f"ocr#{lease_id}")
    assert database.get(KEY) is None


def test_an_older_worker_waits_for_a_new_one_and_is_woken_by_it(database: redis.Redis) -> None:
    older = Older(database, "asr")
    with database.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(CHANNEL)
        assert lock_manager.acquire_lock_with_smart_polling("ocr", KEY, get_gpu_lock_config())
        try:
            assert str(database.get(KEY)).startswith("locked_by_ocr")
            assert not older.takes()
        finally:
            assert lock_manager.release_lock("ocr", KEY)
        news = None
        deadline = time.monotonic() + LONG
        while news is None and time.monotonic() < deadline:
            news = heard.get_message(timeout=1.0)
    assert news is not None
    told = json.loads(news["data"])
    assert (told["event_type"], told["lock_key"]) == ("lock_released", KEY)
    assert told["task_name"] == "ocr"
    assert told["timestamp"] == pytest.approx(time.time(), abs=LONG)
    assert older.takes()


def test_whoever_gives_up_names_the_older_worker(database: redis.Redis) -> None:
    older = Older(database, "asr")
    assert older.takes()
    assert not lock_manager.acquire_lock_with_smart_polling("ocr", KEY, {"max_wait_time": 0.2})
    with (
        pytest.raises(gpulock.GpuLockTimeout, match="locked_by_asr") as caught,
        gpulock.lease(lock_key=KEY, max_wait_time=0.2),
    ):
        raise AssertionError("it must not run")
    assert caught.value.holder is not None
    assert caught.value.holder["task"] == "locked_by_asr"
    assert gpulock.Client().status()["leases"] == []
    older.releases()


def test_they_are_never_both_inside(database: redis.Redis) -> None:
    inside, most, lock = 0, 0, threading.Lock()
    rounds = 10

    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.002)
        with lock:
            inside -= 1

    def older_worker(name: str) -> None:
        older = Older(database, name)
        for _ in range(rounds):
            until(older.takes)
            work()
            older.releases()

    def new_worker(name: str) -> None:
        for _ in range(rounds):
            assert lock_manager.acquire_lock_with_smart_polling(name, KEY, {"poll_interval": 0.05})
            try:
                work()
            finally:
                assert lock_manager.release_lock(name, KEY)

    workers = [
        threading.Thread(target=target, args=(name,))
        for name in ("asr", "ocr")
        for target in (older_worker, new_worker)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LONG)
        assert not worker.is_alive()
    assert most == 1
    assert lock_manager.get_statistics()["successful_acquisitions"] == 2 * rounds
    assert lock_manager.exception_stats.copy()["ownership_violations"] == 0


def test_a_store_without_older_workers_is_a_wrong_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPULOCK_STORE", f"sqlite://{tmp_path}/gpulock.db")
    _process.forget_clients()
    with pytest.raises(gpulock.ConfigError, match="legacy_keys"):
        gpulock.Client()
