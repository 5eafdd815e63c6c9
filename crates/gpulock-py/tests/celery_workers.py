"""Celery workers for tests: processes of `celery_project`, and a client of theirs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpulock
from celery import Celery
from celery.result import AsyncResult
from conftest import LONG, PrivateRedis, until

PROJECT = Path(__file__).parent / "celery_project"


class Project:
    """A Celery project with a broker, a journal, and a store of locks."""

    def __init__(self, folder: Path, redis: PrivateRedis, store: str, queue: str) -> None:
        self.folder, self.store, self.queue = folder, store, queue
        self.journal_file = folder / "journal"
        self.journal_file.touch()
        server = f"redis://127.0.0.1:{redis.port}"
        self.environment = {
            **os.environ,
            "PROJECT_BROKER": f"{server}/1",
            "PROJECT_RESULTS": f"{server}/2",
            "PROJECT_JOURNAL": str(self.journal_file),
            "PROJECT_QUEUE": queue,
            "GPULOCK_STORE": store,
            "GPULOCK_GPUS": "0",
            "GPULOCK_GPU_LOCK__POLL_INTERVAL": "0.5",
            "GPULOCK_GPU_LOCK__MAX_POLL_INTERVAL": "1",
            "GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__INTERVAL": "1",
            "GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__TIMEOUT": "5",
            "PYTHONUNBUFFERED": "1",
        }
        self.app = Celery("project", broker=f"{server}/1", backend=f"{server}/2")
        self.workers: list[Worker] = []
        self.sent: list[AsyncResult] = []

    def worker(self, *options: str, settings: dict[str, Any] | None = None, **env: str) -> Worker:
        """Starts a worker that takes tasks when this returns."""
        environment = {**self.environment, "PROJECT_SETTINGS": json.dumps(settings or {}), **env}
        worker = Worker(self, len(self.workers), options, environment)
        self.workers.append(worker)
        return worker

    def send(self, task: str, *args: Any, **options: Any) -> AsyncResult:
        options = {"queue": self.queue, **options}
        self.sent.append(self.app.send_task(f"project.{task}", args=args, **options))
        return self.sent[-1]

    def call(self, task: str, *args: Any, **options: Any) -> Any:
        return self.send(task, *args, **options).get(timeout=LONG)

    def gate(self, name: str) -> Path:
        """A file that a task waits for; `touch()` opens it."""
        return self.folder / name

    def journal(self, event: str, task: AsyncResult | None = None) -> list[dict[str, Any]]:
        lines = self.journal_file.read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        ours = [entry for entry in entries if task is None or entry["id"] == task.id]
        return [entry for entry in ours if entry["event"] == event]

    def noted(self, event: str, task: AsyncResult, times: int = 1) -> list[dict[str, Any]]:
        """What a task has written down, once it has done so so often."""
        return until(
            lambda: len(found := self.journal(event, task)) >= times and found,
            f"for {event} of {task.id}",
        )

    def status(self) -> dict[str, Any]:
        return gpulock.Client(self.store).status()

    def queue_of_gpus(self) -> list[str]:
        """The tasks that wait for a GPU, in their order."""
        return [waiter["task"].removeprefix("project.") for waiter in self.status()["queue"]]

    def is_free(self) -> bool:
        status = self.status()
        return not status["leases"] and not status["queue"]

    def overlaps(self) -> list[tuple[str, str]]:
        """Pairs of tasks that were inside with one GPU at the same time."""
        spans: dict[tuple[str, int], list[float]] = {}
        for event in ("in", "out"):
            for entry in self.journal(event):
                for gpu in entry["gpus"]:
                    spans.setdefault((entry["lease"] + str(entry["token"]), gpu), []).append(
                        entry["at"]
                    )
        found = []
        last: dict[int, tuple[float, str]] = {}
        for (lease, gpu), (begin, *end) in sorted(spans.items(), key=lambda span: span[1]):
            if gpu in last and begin < last[gpu][0]:
                found.append((last[gpu][1], lease))
            last[gpu] = (end[0] if end else float("inf"), lease)
        return found

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()
        for result in self.sent:
            # It would say goodbye to a server that is not there any more.
            result.backend = None
        self.app.close()


class Worker:
    """A worker and its pool."""

    def __init__(
        self, project: Project, number: int, options: tuple[str, ...], environment: dict[str, str]
    ) -> None:
        self.name = f"w{number}@{project.queue}"
        self.log_file = project.folder / f"worker{number}.log"
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "project", "worker", "-l", "INFO"),
                    *("-n", self.name, "-Q", project.queue, "--without-mingle"),
                    *("--without-gossip", "--without-heartbeat", *options),
                ],
                cwd=PROJECT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.await_log(" ready.")

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def await_log(self, text: str) -> None:
        def has_come() -> bool:
            assert self.process.poll() is None, self.log
            return text in self.log

        until(has_come, f"for {text!r} in the log of {self.name}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Warm with SIGTERM, cold with SIGQUIT; waits for its end."""
        self.process.send_signal(how)
        self.process.wait(LONG)

    def kill(self) -> None:
        """With all its processes, at the end of a test."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def free_when(is_free: Callable[[], bool]) -> None:
    until(is_free, "for a GPU that nobody holds or waits for")
