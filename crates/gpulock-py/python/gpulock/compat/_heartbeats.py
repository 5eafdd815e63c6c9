"""Task heartbeats by their older names.

A lease is kept alive by heartbeats of its own, so there is nothing to start or to stop. What a task
tells about its progress goes to the lease that this thread or asyncio task holds. A task without a
lease has no record in the store in this version; its calls return False and say so in the log, once
for each task.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gpulock.errors import GpuLockError
from gpulock.lease import current

if TYPE_CHECKING:
    from gpulock.lease import Lease

logger = logging.getLogger("gpulock")

_STATUSES = ("running", "completed", "failed")
# So many tasks without a lease are told of once each; then no more.
_MOST_TOLD = 1000


class TaskHeartbeatManager:
    """Heartbeats of tasks, as the older code starts, updates and stops them."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def start(self, task_id: str, **older: object) -> bool:  # noqa: ARG002 (the older signature)
        """Says whether this task is kept alive: whether a lease is held here. `older`: what else
        the older code passes; not used."""
        return self._lease(task_id) is not None

    def update(
        self,
        task_id: str,
        status: str = "running",
        progress: float | None = None,
        message: str | None = None,
    ) -> bool:
        """Tells how far the work is, with the lease's next heartbeat, which is now. `status`:
        "running", "completed" or "failed"; `progress`: percent. False if no lease is held here."""
        if status not in _STATUSES:
            raise ValueError(f"a status is one of {', '.join(_STATUSES)}, not {status!r}")
        held = self._lease(task_id)
        if held is None:
            return False
        percent = 100.0 if progress is None and status == "completed" else float(progress or 0.0)
        words = [word for word in (status if status != "running" else "", message or "") if word]
        held.progress(percent, ": ".join(words))
        return True

    def stop(self, task_id: str) -> bool:
        """Says whether there was anything to stop. A lease's own heartbeats end with it."""
        return self._lease(task_id) is not None

    def _lease(self, task_id: str) -> Lease | None:
        try:
            return current()
        except GpuLockError:
            pass
        if task_id not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(task_id)
            logger.warning(
                "the heartbeat of task %s is not recorded: it holds no lease here, and tasks"
                " without one have no record in this version",
                task_id,
            )
        return None


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
