"""Task heartbeats by their older names.

A task that is started here has a record in the store, which a native thread renews every
`heartbeat.interval` until the task is stopped: `gpulock.Client.task_heartbeats()` shows it. What is
told inside a lease goes to the lease, which has heartbeats of its own and needs no record.

None of these calls raises because of the store: what it does not take is said in the log.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from gpulock import _process
from gpulock._gpulock import Failure
from gpulock._operation import block, completed
from gpulock.client import Client
from gpulock.errors import GpuLockError
from gpulock.lease import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpulock import _gpulock
    from gpulock.lease import Lease

logger = logging.getLogger("gpulock")

_STATUSES = ("running", "completed", "failed")
# So many tasks that have ended and were not stopped are known; then the oldest are not.
_MOST_ENDED = 1000


class TaskHeartbeatManager:
    """Heartbeats of tasks, as the older code starts, updates and stops them. All managers of a
    process are one."""

    def start(self, task_id: str, **older: object) -> bool:  # noqa: ARG002 (the older signature)
        """Begins a new run of a task: from now on its record is renewed in the background. Inside a
        lease nothing is begun. `older`: what else the older code passes; not used.

        False if the store did not take it, which the log says; it is then tried again every
        `heartbeat.interval`.
        """
        return _held() is not None or _attempt(task_id, lambda: _tasks.begin(task_id))

    def update(
        self,
        task_id: str,
        status: str = "running",
        progress: float | None = None,
        message: str | None = None,
    ) -> bool:
        """Tells how a task is doing. `status`: "running", "completed" or "failed"; `progress`:
        percent. Inside a lease its holder's progress says so.

        With "completed" and "failed" the task has ended: its record stays as it is. A task that was
        not started here is told of once, and not renewed. False if the store did not take it.
        """
        if status not in _STATUSES:
            raise ValueError(f"a status is one of {', '.join(_STATUSES)}, not {status!r}")
        held = _held()
        if held is not None:
            _tell_lease(held, status, progress, message)
            if not _tasks.knows(task_id):
                return True
        if progress is None and status == "completed":
            progress = 100.0
        return _attempt(task_id, lambda: _tasks.tell(task_id, status, progress, message))

    def stop(self, task_id: str) -> bool:
        """Ends the heartbeat of a task that was started here. One that has completed or failed
        keeps its record; of any other nothing is known any more, so its record is removed. False if
        there was nothing to stop, or if the store did not take it."""
        if _tasks.knows(task_id):
            return _attempt(task_id, lambda: _tasks.stop(task_id))
        return _held() is not None


class _Tasks:
    """The tasks that were started in this process."""

    def __init__(self) -> None:
        self.forget_parent()

    def forget_parent(self) -> None:
        """Begins anew; in a child after a fork the tasks are the parent's."""
        self._lock = threading.Lock()
        # None: it has ended, and was not stopped yet.
        self._kept: dict[str, _gpulock.Heartbeat | None] = {}
        self._troubles: dict[str, str] = {}

    def knows(self, task_id: str) -> bool:
        """Whether it was started here and not stopped."""
        return task_id in self._kept

    def begin(self, task_id: str) -> bool:
        """Writes the first sign of life, and goes on."""
        client = _client()
        if client is None:
            return False
        first = client.beat(task_id, "running", begins=True)
        # An earlier run of it is told of no longer.
        self._put(task_id, None)
        try:
            block(completed(first))
        except GpuLockError:
            # It begins when the store is back.
            self._put(task_id, client.keep_task(task_id, begins=True))
            raise
        self._put(task_id, client.keep_task(task_id))
        return True

    def tell(self, task_id: str, status: str, progress: float | None, message: str | None) -> bool:
        """Writes a sign of life: in the background while the task runs, else at once."""
        kept = self._kept.get(task_id)
        if kept is not None and status == "running":
            kept.tell(progress, message)
            return self._tell_trouble(task_id, kept.trouble())
        if kept is not None:
            self._put(task_id, None)
            block(completed(kept.end(status, progress, message)))
            return True
        client = _client()
        if client is None:
            return False
        sign = client.beat(task_id, status, progress=progress, message=message)
        block(completed(sign))
        return True

    def stop(self, task_id: str) -> bool:
        """Forgets it here, and in the store unless it has ended."""
        with self._lock:
            kept = self._kept.pop(task_id, None)
            self._troubles.pop(task_id, None)
        if kept is not None:
            block(completed(kept.end()))
        return True

    def _put(self, task_id: str, kept: _gpulock.Heartbeat | None) -> None:
        """A task that is put again is the latest of all."""
        with self._lock:
            self._kept.pop(task_id, None)
            self._troubles.pop(task_id, None)
            self._kept[task_id] = kept
            ended = [task_id for task_id, kept in self._kept.items() if kept is None]
            for oldest in ended[:-_MOST_ENDED]:
                del self._kept[oldest]

    def _tell_trouble(self, task_id: str, trouble: str | None) -> bool:
        """Says in the log why the last sign of life was not written, once for each reason."""
        if trouble is None:
            self._troubles.pop(task_id, None)
            return True
        if self._troubles.get(task_id) != trouble:
            self._troubles[task_id] = trouble
            logger.warning("the heartbeat of task %s is not recorded: %s", task_id, trouble)
        return False


_tasks = _Tasks()
os.register_at_fork(after_in_child=_tasks.forget_parent)

heartbeat_manager = TaskHeartbeatManager()
"""The one behind the three functions."""


def start_task_heartbeat(task_id: str, **older: object) -> bool:
    """See `TaskHeartbeatManager.start`."""
    return heartbeat_manager.start(task_id, **older)


def update_task_heartbeat(
    task_id: str,
    status: str = "running",
    progress: float | None = None,
    message: str | None = None,
) -> bool:
    """See `TaskHeartbeatManager.update`."""
    return heartbeat_manager.update(task_id, status, progress, message)


def stop_task_heartbeat(task_id: str) -> bool:
    """See `TaskHeartbeatManager.stop`."""
    return heartbeat_manager.stop(task_id)


def _held() -> Lease | None:
    """The lease that this thread or asyncio task holds."""
    try:
        return current()
    except GpuLockError:
        return None


def _tell_lease(held: Lease, status: str, progress: float | None, message: str | None) -> None:
    percent = 100.0 if progress is None and status == "completed" else float(progress or 0.0)
    words = [word for word in (status if status != "running" else "", message or "") if word]
    held.progress(percent, ": ".join(words))


def _client() -> _gpulock.Client | None:
    """The configured one; None if nothing is to reach a store (`GPULOCK_DISABLED=1`)."""
    return None if _process.is_disabled() else Client()._native


def _attempt(task_id: str, work: Callable[[], bool]) -> bool:
    """Says in the log what went wrong, instead of raising it."""
    try:
        return work()
    except (GpuLockError, Failure) as error:
        logger.warning("the heartbeat of task %s is not recorded: %s", task_id, error.message)
    except ValueError as error:
        logger.warning("task %r cannot have a heartbeat: %s", task_id, error)
    return False
