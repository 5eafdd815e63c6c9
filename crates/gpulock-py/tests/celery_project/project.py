"""The Celery project whose workers the tests run.

Every task writes down when it goes in and out of its locked body: one JSON object in a line of the
journal, each written at once. Times are monotonic and the same for all processes of the host.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gpulock
from celery import Celery, signals
from gpulock import gpu_lock
from gpulock.celery import GpuTask

app = Celery("project", broker=os.environ["PROJECT_BROKER"], backend=os.environ["PROJECT_RESULTS"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_default_queue=os.environ.get("PROJECT_QUEUE", "celery"),
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
)
app.conf.update(json.loads(os.environ.get("PROJECT_SETTINGS", "{}")))

# Longer than any task of a test runs.
LONG = 60.0


def note(event: str, **facts: Any) -> None:
    line = json.dumps({"event": event, "at": time.monotonic(), "pid": os.getpid(), **facts})
    journal = os.open(os.environ["PROJECT_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(journal, line.encode() + b"\n")
    os.close(journal)


@contextmanager
def inside(task: Any, **facts: Any) -> Iterator[None]:
    """What a locked body does."""
    request, held = task.request, gpulock.current()
    facts |= {"id": request.id, "gpus": held.gpus, "token": held.token, "lease": held.lease_id}
    note("in", retries=request.retries, headers=request.headers, **facts)
    try:
        yield
    finally:
        note("out", **facts)


def wait_for(gate: str) -> None:
    """Waits until a file is there, in Python: every signal is heard."""
    deadline = time.monotonic() + LONG
    while not Path(gate).exists():
        assert time.monotonic() < deadline, f"{gate} never came"
        time.sleep(0.01)


@signals.task_prerun.connect
def _delivered(task_id: str, task: Any, **_: Any) -> None:
    request = task.request
    note("delivered", id=task_id, retries=request.retries, queue=request.delivery_info)


@signals.task_postrun.connect
def _done(task_id: str, state: str, **_: Any) -> None:
    note("done", id=task_id, state=state)


@signals.task_failure.connect
def _failed(task_id: str, exception: BaseException, **_: Any) -> None:
    note("failed", id=task_id, error=type(exception).__name__)


@signals.worker_process_shutdown.connect
def _linger(**_: Any) -> None:
    """A process that takes long to end."""
    time.sleep(float(os.environ.get("PROJECT_LINGERS", "0")))


@app.task(bind=True)
@gpu_lock()
def work(self: Any, seconds: float = 0.0) -> str:
    with inside(self):
        time.sleep(seconds)
    return "done"


@app.task(bind=True)
@gpu_lock()
def hold(self: Any, gate: str) -> str:
    with inside(self):
        wait_for(gate)
    return "held"


@app.task(bind=True)
@gpu_lock()
def hold_in_native_code(self: Any, seconds: float) -> None:
    """No signal's handler runs until it is over: only the kernel ends it."""
    with inside(self):
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@app.task(bind=True)
@gpu_lock()
def fail(self: Any) -> None:
    with inside(self):
        raise ValueError("the model is broken")


@app.task(bind=True, max_retries=2)
@gpu_lock()
def fail_and_retry(self: Any) -> None:
    """Its own retries are out before it has given its GPU back."""
    with inside(self):
        error = ValueError("the model is broken")
        try:
            raise self.retry(countdown=0, exc=error)
        finally:
            time.sleep(0.3)


@app.task(bind=True)
@gpu_lock()
def look_at(self: Any, pid: int) -> str:
    """The state of another process, seen while this task holds the GPU."""
    with inside(self):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return "gone"


@app.task(bind=True, max_retries=1)
@gpu_lock(wait="retry")
def patient(self: Any) -> str:
    with inside(self):
        return "done"


@app.task(bind=True, autoretry_for=(ValueError,), max_retries=1, default_retry_delay=0)
@gpu_lock(wait="retry")
def patient_and_broken(self: Any) -> None:
    with inside(self):
        raise ValueError("the model is broken")


@app.task(bind=True, max_retries=0)
@gpu_lock(wait="retry", max_wait_time=1.5)
def impatient(self: Any) -> None:
    with inside(self):
        pass


@app.task(bind=True)
@gpu_lock(when=lambda device: device == "cuda")
def recognise(self: Any, device: str) -> str:
    return device


@app.task(base=GpuTask, bind=True, gpu_lock={"gpus": 1, "priority": "high"})
def with_base(self: Any) -> list[int]:
    with inside(self):
        return gpulock.current().gpus


@app.task(base=GpuTask)
def with_base_unbound(number: int) -> list[int]:
    return [number, *gpulock.current().gpus]


@app.task(bind=True)
def two_at_once(self: Any) -> list[str]:
    """Two locked calls of one function in one task."""

    async def both() -> list[str]:
        return await asyncio.gather(_half(self), _half(self))

    return asyncio.run(both())


@gpu_lock(gpus=1)
async def _half(task: Any) -> str:
    with inside(task):
        await asyncio.sleep(0.05)
        return gpulock.current().lease_id
