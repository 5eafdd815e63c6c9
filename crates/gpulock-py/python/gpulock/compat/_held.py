"""The leases that were taken by `lock_manager`, and by whom.

A name of a task is no identity: two threads of one process may run the same task. So a lease belongs
to the thread or asyncio task that took it, and only there it can be released by its name. A lease
that a thread still has when it ends is given back.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from gpulock.lease import Lease
    from gpulock.lease import lease as LeaseScope


class Held(NamedTuple):
    """One lock that was taken by name."""

    task: str
    lock_key: str
    scope: LeaseScope
    lease: Lease
    pid: int


class _OfThread(threading.local):
    """What one thread holds: by itself, and in each of its asyncio tasks."""

    def __init__(self) -> None:
        self.by_itself: list[Held] = []
        self.by_task: weakref.WeakKeyDictionary[Any, list[Held]] = weakref.WeakKeyDictionary()


_thread = _OfThread()


def put(task: str, lock_key: str, scope: LeaseScope, lease: Lease) -> None:
    """Remembers a lock that was taken here."""
    _here().append(Held(task, lock_key, scope, lease, os.getpid()))


def take(task: str, lock_key: str) -> Held | None:
    """The lock that was taken here last under this name, once; None if there is none. What was
    taken before a fork belongs to the parent."""
    held = _here()
    for place in range(len(held) - 1, -1, -1):
        one = held[place]
        if (one.task, one.lock_key, one.pid) == (task, lock_key, os.getpid()):
            return held.pop(place)
    return None


def latest() -> Held | None:
    """The lock that was taken here last, under whatever name."""
    own = [one for one in _here() if one.pid == os.getpid()]
    return own[-1] if own else None


def _here() -> list[Held]:
    """What this asyncio task holds, or this thread outside of any."""
    asyncio = sys.modules.get("asyncio")
    task = None
    if asyncio is not None:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
    if task is None:
        return _thread.by_itself
    return _thread.by_task.setdefault(task, [])
