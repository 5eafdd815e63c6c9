"""Which leases the running code is in: by thread, asyncio task and context."""

from __future__ import annotations

import os
import sys
import weakref
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING

from gpulock.errors import GpuLockError

if TYPE_CHECKING:
    from gpulock._options import Request
    from gpulock.lease import Lease

Strand = tuple[int, object]
"""What runs one thing after the other: a thread, and in it an asyncio task or None."""


class Entry:
    """That a lease is held around what runs now. It does not keep the lease alive."""

    __slots__ = ("lease", "strand")

    def __init__(self, lease: Lease) -> None:
        self.lease = weakref.ref(lease)
        self.strand: Strand = strand()


_entries: ContextVar[tuple[Entry, ...]] = ContextVar("gpulock_entries", default=())


def strand() -> Strand:
    """The thread and asyncio task that run now."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return get_ident(), None
    try:
        return get_ident(), asyncio.current_task()
    except (AttributeError, RuntimeError):
        return get_ident(), None


def enter(entry: Entry) -> None:
    """From now on this context is inside the entry's lease; the innermost is the last."""
    entry.strand = strand()
    alive = [one for one in _entries.get() if _lease(one) is not None]
    _entries.set((*alive, entry))


def leave(entry: Entry) -> None:
    """This context is no longer inside the entry's lease. Any other context does not change."""
    entries = _entries.get()
    if entry in entries:
        _entries.set(tuple(one for one in entries if one is not entry))


def is_inside() -> bool:
    """Whether a lease may be held around the running code."""
    return bool(_entries.get())


def current() -> Lease:
    """The innermost lease that is held around the running code, also if a task or thread that
    inherited the context asks. Raises `GpuLockError` if there is none."""
    lease = innermost()
    if lease is not None:
        return lease
    raise GpuLockError(
        "no lease is held here",
        {
            "kind": "no_lease",
            "hint": "call it inside `with gpulock.lease(...)` or a function under @gpu_lock()",
        },
    )


def innermost() -> Lease | None:
    """As `current()`; None if there is none."""
    for entry in reversed(_entries.get()):
        lease = _lease(entry)
        if lease is not None:
            return lease
    return None


def covering(request: Request, place: tuple[str, str]) -> Lease | None:
    """The innermost lease of this very thread and asyncio task that covers a request."""
    here = None
    for entry in reversed(_entries.get()):
        lease = _lease(entry)
        if lease is None:
            continue
        here = here or strand()
        if entry.strand == here and lease.covers(request, place) and not lease.lost:
            return lease
    return None


def enclosing() -> list[str]:
    """The ids of all leases around the running code."""
    leases = [_lease(entry) for entry in _entries.get()]
    return [lease.lease_id for lease in leases if lease is not None and lease.is_locked]


def _lease(entry: Entry) -> Lease | None:
    """The entry's lease, if this process still holds it."""
    lease = entry.lease()
    return lease if lease is not None and lease.pid == os.getpid() and not lease.released else None
