"""What can go wrong, by what it means for the caller.

Every error survives pickling and a task queue's result backend: its `args` are the message and a
dictionary of plain values, and rebuilding it from them gives the same error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpulock._gpulock import Failure


class GpuLockError(Exception):
    """Anything that gpulock could not do.

    Raised as such when a request can never be met (`kind` is "refused": a GPU that the pool does
    not have, a wait for oneself), when the driver cannot be asked for its GPUs ("driver"), when
    this process cannot start what it needs ("start"), and when no lease is held ("no_lease").
    """

    _kind = "error"

    def __init__(self, message: str = "", details: Mapping[str, Any] | None = None) -> None:
        known = {key: value for key, value in dict(details or {}).items() if value is not None}
        super().__init__(message, *([known] if known else []))
        self.message = message
        """What happened, without the hint."""
        self.kind: str = known.get("kind", self._kind)
        """What happened, as a word for programs."""
        self.hint: str | None = known.get("hint")
        """What a person can do about it."""
        self.waited: float | None = known.get("waited")
        """Seconds that the request waited; None if it did not."""
        self.position: int | None = known.get("position")
        """Its place in the queue when it gave up; 1: it was the next."""
        self.holders: list[dict[str, Any]] = known.get("holders", [])
        """Who held the GPUs: task, host, pid, gpus, held_for (seconds), draining."""
        self.retry_after: float | None = known.get("retry_after")
        """Seconds after which asking again probably makes sense, where that is known."""

    @property
    def holder(self) -> dict[str, Any] | None:
        """The first of `holders`; None if nobody held the GPUs."""
        return self.holders[0] if self.holders else None

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class GpuLockTimeout(GpuLockError):
    """The GPUs did not become free within `max_wait_time`."""

    _kind = "timeout"

    def __init__(self, message: str = "", details: Mapping[str, Any] | None = None) -> None:
        # Log filters and retry rules of the older system look for this word.
        if "GPU_LOCK_TIMEOUT" not in message:
            message = f"GPU_LOCK_TIMEOUT: {message}"
        super().__init__(message, details)


class LeaseLost(GpuLockError):
    """The lease ended before its holder gave it back: the GPU may be somebody else's by now."""

    _kind = "lost"


class StopRequested(GpuLockError):
    """The holder was asked to stop (raised only where `raise_on_stop=True` asks for it)."""

    _kind = "stop"


class StoreUnavailable(GpuLockError):
    """The store cannot be used. Nothing runs unlocked because of that."""

    _kind = "store"


class NotOwner(GpuLockError):
    """The lease belongs to another process: it was taken before a fork."""

    _kind = "not_owner"


class DuplicateTask(GpuLockError):
    """Another run of the same task of a task queue holds or waits already."""

    _kind = "duplicate"


class ConfigError(GpuLockError):
    """The configuration is invalid or cannot be read."""

    _kind = "config"


_BY_KIND: dict[str, type[GpuLockError]] = {
    "timeout": GpuLockTimeout,
    "lost": LeaseLost,
    "store": StoreUnavailable,
    "not_owner": NotOwner,
    "duplicate": DuplicateTask,
    "config": ConfigError,
}

# Where the way out is another one in Python than on the command line.
_HINTS = {
    "timeout": "`gpulock status` shows who holds and waits; a longer max_wait_time waits longer",
    "not_owner": "take the lease in the process that uses it; a forked child asks for its own",
}


def error_for(failure: Failure, expected: float | None = None) -> GpuLockError:
    """The error that a failure of the native half means. `expected`: seconds until it would
    probably have been the request's turn."""
    found = failure.details
    holders: list[dict[str, Any]] = found.get("holder") or []
    details: dict[str, Any] = {
        "kind": failure.kind if failure.kind not in _BY_KIND else None,
        "hint": _HINTS.get(failure.kind) or _hint_for_self_wait(failure) or failure.hint,
        "waited": found.get("waited"),
        "position": found.get("position"),
        "holders": holders or None,
        "retry_after": found.get("closed_for") or expected,
    }
    return _BY_KIND.get(failure.kind, GpuLockError)(failure.message, details)


def _hint_for_self_wait(failure: Failure) -> str | None:
    if failure.kind == "refused" and "its own lease" in failure.message:
        return (
            "leave out the inner request, or let it re-enter the lease: ask for GPUs that the outer"
            " one holds, in the same thread and asyncio task, without reentrant=False"
        )
    return None
