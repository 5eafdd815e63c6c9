"""The leases that were taken by `lock_manager`, and by whom.

A name of a task is no identity: two threads of one process may run the same task. So a lease
belongs to the thread or asyncio task that took it, and only there it can be released by its name.
What a thread still has when it ends is given back.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from gpulock import _context, memory

if TYPE_CHECKING:
    from gpulock.lease import Lease

logger = logging.getLogger("gpulock")


class Held(NamedTuple):
    """One lock that was taken by name."""

    task: str
    lock_key: str
    lease: Lease

    def give_back(self) -> None:
        """Frees GPU memory and releases. Raises `LeaseLost` and `StoreUnavailable`."""
        try:
            for error in memory.free():
                logger.warning("freeing GPU memory failed: %s", error)
        finally:
            self.lease.release()


class _OfThread(threading.local):
    """What one thread holds: by itself, and in each of its asyncio tasks."""

    def __init__(self) -> None:
        self.by_itself: list[Held] = []
        self.by_task: weakref.WeakKeyDictionary[Any, list[Held]] = weakref.WeakKeyDictionary()


_thread = _OfThread()


def put(held: Held) -> None:
    """Remembers a lock that was taken here."""
    _here().append(held)


def take(task: str, lock_key: str) -> Held | None:
    """The lock that was taken here last under this name, once; None if there is none. What was
    taken before a fork belongs to the parent."""
    held = _here()
    for place in range(len(held) - 1, -1, -1):
        one = held[place]
        if (one.task, one.lock_key, one.lease.pid) == (task, lock_key, os.getpid()):
            return held.pop(place)
    return None


def _here() -> list[Held]:
    """What this asyncio task holds, or this thread outside of any."""
    _, task = _context.strand()
    return _thread.by_itself if task is None else _thread.by_task.setdefault(task, [])
