"""From a request to a lease."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from gpulock import _context, _process
from gpulock._operation import Waiting, completed
from gpulock.errors import StoreUnavailable
from gpulock.lease import Lease

if TYPE_CHECKING:
    from gpulock._operation import Flow
    from gpulock._options import Request

logger = logging.getLogger("gpulock")

# Where the native half wants a number of seconds: as good as for ever.
_AGES = 1e9


class Delivery(NamedTuple):
    """What a request has from the task queue that runs it."""

    task: str
    lease_id: str
    run: int
    comes_back_within: float | None


def acquiring(request: Request, delivery: Delivery | None = None) -> Flow[Lease]:
    """Asks for the GPUs and waits; the lease is new, not one that is held already."""
    if _process.is_disabled():
        return _unlocked(request, delivery)
    try:
        opened = _process.opened(request.key)
        policy = request.on_store_error or opened.settings["gpu_lock.on_store_error"]
        wish = _wish(request, delivery, opened.settings, policy)
        task = wish["task"]
        operation = opened.client.request(**wish)
        native = yield from completed(operation, Waiting(request.wanted, task))
    except StoreUnavailable as error:
        if not _may_run_unlocked(request):
            raise
        lease = _unlocked(request, delivery)
        logger.warning(
            "%s runs WITHOUT a lock on %s, as on_store_error says: %s",
            lease.task,
            request.wanted,
            error.message,
            extra=lease.log_fields,
        )
        return lease
    lease = Lease(request, native)
    lease.critical_failure_log = opened.settings["critical_failure_log"]
    lease.place = (opened.client.store, opened.client.pool)
    return lease


def longest_wait(request: Request) -> float:
    """Seconds for which a request waits."""
    if request.max_wait_time is not None:
        return request.max_wait_time
    return float(_process.opened(request.key).settings["gpu_lock.max_wait_time"])


def task_label() -> str:
    """What work is called of which nothing is said: the program's name."""
    return os.path.basename(sys.argv[0] if sys.argv and sys.argv[0] else "python") or "python"


def _wish(
    request: Request, delivery: Delivery | None, settings: dict[str, Any], policy: str
) -> dict[str, Any]:
    """The arguments of the native request."""
    forever = request.waits_forever
    wish: dict[str, Any] = {
        "task": _label(request, delivery),
        "gpus": request.gpus,
        "lazily": True,
    }
    optional = {
        "priority": None if request.priority == "normal" else request.priority,
        "max_wait": None if forever else request.max_wait_time,
        "poll_interval": request.poll_interval,
        "heartbeat_interval": request.heartbeat_interval,
        "heartbeat_timeout": request.heartbeat_timeout,
        "inside": _context.enclosing() or None,
    }
    wish.update((name, value) for name, value in optional.items() if value is not None)
    if forever:
        wish["forever"] = True
    if policy == "wait":
        longest = request.max_wait_time
        longest = settings["gpu_lock.max_wait_time"] if longest is None else longest
        wish["store_patience"] = min(longest, _AGES)
    if delivery is not None:
        wish.update(lease_id=delivery.lease_id, run=delivery.run)
        if delivery.comes_back_within is not None:
            wish["comes_back_within"] = delivery.comes_back_within
    return wish


def _label(request: Request, delivery: Delivery | None) -> str:
    queued = delivery.task if delivery else None
    label = request.task or queued or request.label or task_label()
    # The store's limit is 256 bytes of printable text, and a label is no reason to fail.
    printable = "".join(character for character in label if character.isprintable())
    return printable.encode(errors="replace")[:256].decode(errors="ignore") or "python"


def _may_run_unlocked(request: Request) -> bool:
    if request.on_store_error is not None:
        return request.on_store_error == "run_unlocked"
    try:
        settings = _process.opened(request.key).settings
    except StoreUnavailable:
        # A store that cannot even be opened gives no client that knows the file.
        return os.environ.get("GPULOCK_GPU_LOCK__ON_STORE_ERROR") == "run_unlocked"
    return bool(settings["gpu_lock.on_store_error"] == "run_unlocked")


def _unlocked(request: Request, delivery: Delivery | None) -> Lease:
    lease = Lease(request, None)
    lease.unlocked_task = _label(request, delivery)
    return lease
