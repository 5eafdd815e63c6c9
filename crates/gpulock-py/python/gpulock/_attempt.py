"""What a locked call must know about the task queue that runs it.

A task queue may deliver one task more than once, and may run it again later. The decorator asks
`current()` for the attempt in which it is called; `gpulock.celery` answers for Celery. Anywhere
else there is none, and a call is just a call.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gpulock.errors import DuplicateTask, GpuLockTimeout


class Attempt(Protocol):
    """One run of a queue's task, around one locked call in it."""

    @property
    def task(self) -> str:
        """What the work is called, for people."""
        raise NotImplementedError

    @property
    def lease_id(self) -> str:
        """The same for every delivery of the same task: 32 hexadecimal digits."""
        raise NotImplementedError

    @property
    def run(self) -> int:
        """Tells this run apart from others of the same task."""
        raise NotImplementedError

    @property
    def can_retry(self) -> bool:
        """Whether the queue can run the task again later (not in eager mode)."""
        raise NotImplementedError

    @property
    def comes_back_within(self) -> float:
        """Seconds for which the place in the queue must be kept if this attempt comes back."""
        raise NotImplementedError

    @property
    def waited(self) -> float:
        """Seconds since the task first asked, over all its attempts."""
        raise NotImplementedError

    def granted(self) -> None:
        """The wait is over: what waiting had left in the task's message is taken out."""
        raise NotImplementedError

    def come_back(self, busy: GpuLockTimeout, expected: float | None) -> NoReturn:
        """Gives the worker's slot back; the queue runs the task again after about `expected`
        seconds. Raises the queue's own control-flow exception."""
        raise NotImplementedError

    def duplicate(self, error: DuplicateTask) -> DuplicateTask:
        """The error to raise, in a form in which the queue does not take the task for failed."""
        raise NotImplementedError

    def close(self) -> None:
        """The locked call is over."""
        raise NotImplementedError


def prepare() -> None:
    """Called where a function is decorated, which a worker's main process does too: the queue's
    integration listens to the queue's signals from then on."""
    if "celery" in sys.modules:
        from gpulock import celery

        celery.connect()


def current(function: Callable[..., Any]) -> Attempt | None:
    """The attempt in which `function` is called now; None outside a task queue."""
    if "celery" not in sys.modules:
        return None
    from gpulock import celery

    return celery.attempt_for(function)
