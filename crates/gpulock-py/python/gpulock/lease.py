"""Leases: the right to use some GPUs, for `with`, `async with` and by hand."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING
from warnings import warn

from gpulock import _context, _process, _watcher, protections
from gpulock._gpulock import Failure
from gpulock._operation import block, finish, readable
from gpulock._options import Request
from gpulock.errors import LeaseLost, NotOwner, StopRequested, StoreUnavailable, error_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from gpulock import _gpulock
    from gpulock._operation import Flow
    from gpulock._options import LeaseOptions

__all__ = ["Lease", "LeaseScope", "current", "lease"]

current = _context.current

_ALWAYS = float("inf")


class Lease:
    """The right to use some GPUs. Heartbeats keep it alive in the background until it is released.

    It belongs to the process that asked for it: in a child after a fork every use of it is a
    `NotOwner`. One that nobody refers to any more is given back, with a `ResourceWarning`.
    """

    def __init__(self, request: Request, native: _gpulock.Lease | None) -> None:
        self.native = native
        """The native half; None if nothing is locked. Not for users."""
        self.request = request
        """What was asked for."""
        self.pid = os.getpid()
        """The process that holds it."""
        self.ends_at = None if request.timeout is None else time.monotonic() + request.timeout
        """Monotonic time at which the holder is asked to stop because of `timeout`."""
        self.place: tuple[str, str] | None = None
        """Store and pool."""
        self.critical_failure_log: str | None = None
        """Where a release that cannot be confirmed is written down."""
        self.unlocked_task = ""
        """The task's label if nothing is locked."""
        self._unlocked_id = "" if native is not None else os.urandom(16).hex()
        # How many requests of this context it serves: the outer one, and those that re-entered.
        self._uses = 1
        self._visible_before: str | None = None
        self._watched: _watcher.Watched | None = None
        if request.set_visible_devices:
            self._show_devices()
        if native is not None and (request.on_lost or request.on_stop or request.on_danger):
            self._watched = _watcher.Watched(self, native.watch())
            _watcher.watcher.add(self._watched)

    # --- what it is --------------------------------------------------------------------------

    @property
    def lease_id(self) -> str:
        """Its identity: 32 hexadecimal digits."""
        return self._unlocked_id if self.native is None else self.native.lease_id

    @property
    def token(self) -> int:
        """Its fencing token, larger than that of every earlier lease of the pool; 0 if nothing is
        locked."""
        return 0 if self.native is None else self.native.token

    @property
    def gpus(self) -> list[int]:
        """The indices of its GPUs, in rising order."""
        if self.native is not None:
            return self.native.gpus
        asked = self.request.gpus
        if isinstance(asked, int):
            return list(range(asked))
        return sorted(int(gpu) for gpu in asked if gpu.isdecimal())

    @property
    def visible_devices(self) -> str:
        """For CUDA_VISIBLE_DEVICES: UUIDs where they are known, else indices."""
        if self.native is not None:
            return self.native.visible_devices
        asked = self.request.gpus
        return ",".join(map(str, range(asked) if isinstance(asked, int) else asked))

    @property
    def task(self) -> str:
        """What the work is called."""
        return self.unlocked_task if self.native is None else self.native.task

    @property
    def pool(self) -> str:
        """The pool of its GPUs."""
        return (self.request.key[2] or "default") if self.native is None else self.native.pool

    @property
    def lock_key(self) -> str:
        """Its GPUs by their older names, with commas between them."""
        prefix = "gpu_lock:" if self.pool == "default" else f"gpu_lock:{self.pool}/"
        return ",".join(f"{prefix}{gpu}" for gpu in self.gpus)

    @property
    def waited(self) -> float:
        """Seconds from asking to the grant."""
        return 0.0 if self.native is None else self.native.waited

    @property
    def is_locked(self) -> bool:
        """False if it stands for no lock at all: `GPULOCK_DISABLED`, or `run_unlocked`."""
        return self.native is not None

    # --- how it is doing ---------------------------------------------------------------------

    @property
    def lost(self) -> bool:
        """Whether it ended against the holder's will: the GPUs may be somebody else's by now."""
        state = self._state()
        return state is not None and state.health == "lost"

    @property
    def stop_requested(self) -> bool:
        """Whether the holder was asked to stop."""
        return self.stop_reason is not None

    @property
    def stop_reason(self) -> str | None:
        """Why the holder was asked to stop; None if it was not."""
        state = self._state()
        if state is not None and state.stop_reason is not None:
            return state.stop_reason or "somebody asked for it"
        if self.ends_at is not None and time.monotonic() >= self.ends_at:
            return f"it has been held for its timeout of {self.request.timeout:g}s"
        return None

    @property
    def deadline_in(self) -> float:
        """Seconds until the holder must have stopped unless a heartbeat gets through."""
        state = self._state()
        return _ALWAYS if state is None else state.deadline_in

    @property
    def released(self) -> bool:
        """Whether it was given back by its holder."""
        return self._uses == 0

    def check(self) -> None:
        """Raises `LeaseLost` if it is lost, and `StopRequested` if the holder was asked to stop and
        has opted in by `raise_on_stop=True`. A safe point of long work calls it."""
        state = self._state()
        if state is not None and state.health == "lost":
            why = state.lost_because or "it ended"
            raise LeaseLost(f"{self.describe()} is lost: {why}", {"hint": "stop using its GPUs"})
        if self.request.raise_on_stop:
            reason = self.stop_reason
            if reason is not None:
                raise StopRequested(f"{self.describe()} is to be given back: {reason}")

    def progress(self, percent: float, message: str = "") -> None:
        """Tells how far the work is: `percent` from 0 to 100, and a word for people. Does not wait.
        With `raise_on_stop=True` it is a safe point too, see `check()`."""
        if self.native is not None:
            try:
                self.native.progress(float(percent), str(message))
            except Failure as failure:
                raise error_for(failure) from None
        if self.request.raise_on_stop:
            self.check()

    async def wait_lost(self) -> bool:
        """Returns True when it is lost, False when it was given back before."""
        return await self._until(lambda: self.lost)

    async def wait_stop_requested(self) -> bool:
        """Returns True when the holder is asked to stop, False when it was given back before."""
        return await self._until(lambda: self.stop_requested)

    # --- giving it back ----------------------------------------------------------------------

    def release(self) -> None:
        """Gives it back; nothing happens if it was given back already. Where the request re-entered
        a lease that is held further out, that one stays held.

        Raises `LeaseLost` if it had ended before, `StoreUnavailable` if the release could not be
        confirmed, `NotOwner` in a child after a fork.
        """
        block(protections.give_back(self))

    async def arelease(self) -> None:
        """As `release()`, without blocking the event loop."""
        await finish(protections.give_back(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block(protections.leave(self, error))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await finish(protections.leave(self, error))

    def __del__(self) -> None:
        if not getattr(self, "_uses", 0) or self.pid != os.getpid():
            return
        self._end()
        if self.native is not None and not sys.is_finalizing():
            text = f"{self.describe()} was never released"
            warn(text, ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return f"<gpulock.Lease {self.lease_id} of {self.task!r} on {self.visible_devices}>"

    # --- for the package ---------------------------------------------------------------------

    @property
    def log_fields(self) -> dict[str, object]:
        """What log records about it carry."""
        return {"lease_id": self.lease_id, "gpus": self.gpus, "task": self.task}

    def describe(self) -> str:
        """It, for people."""
        gpus = self.gpus
        named = f"GPU {gpus[0]}" if len(gpus) == 1 else f"GPUs {', '.join(map(str, gpus))}"
        return f"the lease of {self.task} on {named}"

    def covers(self, request: Request, place: tuple[str, str]) -> bool:
        """Whether a request to that store and pool can use this lease's GPUs."""
        if self.native is None or self.place != place:
            return False
        if isinstance(request.gpus, int):
            return request.gpus <= len(self.gpus)
        names = {str(gpu) for gpu in self.gpus} | set(self.visible_devices.split(","))
        return names.issuperset(request.gpus)

    def arrive(self) -> None:
        """One more request uses it."""
        self._uses += 1

    def depart(self) -> bool:
        """One request less uses it; whether that was the last one, which must release it."""
        if self._uses == 0:
            return False
        self._uses -= 1
        if self._uses == 0:
            self._end()
            return True
        return False

    def require_owner(self) -> None:
        """Raises `NotOwner` in a child after a fork."""
        if self.pid != os.getpid():
            raise NotOwner(
                f"{self.describe()} belongs to process {self.pid}, of which this one is a child",
                {"hint": "take the lease in the process that uses it"},
            )

    def _end(self) -> None:
        self._uses = 0
        if self._watched is not None:
            _watcher.watcher.drop(self._watched)
            self._watched = None
        if self.request.set_visible_devices:
            self._hide_devices()

    def _state(self) -> _gpulock.LeaseState | None:
        """None if nothing is locked."""
        if self.native is None:
            return None
        try:
            return self.native.state()
        except Failure as failure:
            raise error_for(failure) from None

    async def _until(self, reached: Callable[[], bool]) -> bool:
        watch = None if self.native is None else self.native.watch()
        while True:
            if watch is not None:
                watch.state()
            if reached():
                return True
            if self.released:
                return False
            left = None if self.ends_at is None else max(0.0, self.ends_at - time.monotonic())
            if watch is not None:
                await readable(watch.fileno(), left or None)
            else:
                from asyncio import sleep

                await sleep(0.1)

    def _show_devices(self) -> None:
        self._visible_before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = self.visible_devices
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            protections.logger.warning(
                "set_visible_devices has no effect: torch has opened its GPUs already",
                extra=self.log_fields,
            )

    def _hide_devices(self) -> None:
        if self._visible_before is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = self._visible_before


class LeaseScope:
    """A request that is made at each entry of a `with` or `async with` block, and the lease that
    is held in it. It can be used again and again, also by several threads and tasks at once."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._held: list[tuple[Lease, _context.Entry]] = []

    def __enter__(self) -> Lease:
        return block(self._enter())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block(self._exit(error))

    async def __aenter__(self) -> Lease:
        return await finish(self._enter())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await finish(self._exit(error))

    def _enter(self) -> Flow[Lease]:
        held = yield from entering(self._request, self._obtain)
        entry = _context.Entry(held)
        self._held.append((held, entry))
        _context.enter(entry)
        return held

    def _exit(self, error: BaseException | None) -> Flow[None]:
        held, entry = self._innermost()
        try:
            yield from protections.leave(held, error)
        finally:
            _context.leave(entry)

    def _obtain(self) -> Flow[Lease]:
        """A lease that is not held yet."""
        from gpulock._acquire import acquiring

        return (yield from acquiring(self._request))

    def _innermost(self) -> tuple[Lease, _context.Entry]:
        """What this thread and asyncio task has entered last; what was entered last at all if a
        framework leaves the block elsewhere than it entered it."""
        here = _context.strand()
        for place in range(len(self._held) - 1, -1, -1):
            if self._held[place][1].strand == here:
                return self._held.pop(place)
        return self._held.pop()


def entering(request: Request, obtain: Callable[[], Flow[Lease]]) -> Flow[Lease]:
    """The lease of this thread and asyncio task that covers the request, else one from `obtain`."""
    held = _covering(request)
    if held is not None:
        held.arrive()
        return held
    return (yield from obtain())


def _covering(request: Request) -> Lease | None:
    if not request.reentrant or not _context.is_inside() or _process.is_disabled():
        return None
    try:
        client = _process.opened(request.key).client
    except StoreUnavailable:
        # What that means, the request itself decides.
        return None
    return _context.covering(request, (client.store, client.pool))


def lease(**options: Unpack[LeaseOptions]) -> LeaseScope:
    """GPUs for a block of code, any one where nothing is said:

        with gpulock.lease(gpus=1, task="ocr") as held:   # or: async with
            held.progress(45)

    The options are those of `gpulock.LeaseOptions`. Entering the block waits for the GPUs and gives
    the `Lease`; leaving it frees GPU memory and releases. Entering raises `GpuLockTimeout`,
    `StoreUnavailable`, `ConfigError` or `GpuLockError`; leaving it raises `LeaseLost` if the lease
    ended while the block ran without an exception of its own.
    """
    return LeaseScope(Request.parse("lease", dict(options)))
