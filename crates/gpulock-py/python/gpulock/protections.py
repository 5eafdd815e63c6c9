"""The way out of a lease: free GPU memory, release, and if that is not confirmed, retry.

Each of the three has its own guard: whatever happens in one, the next is done, and an exception
of the task itself is never replaced by one of the clean-up. A release that stays unconfirmed leaves
the lease to its deadline, is written to the critical failure log, and is reported to the store.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from gpulock import memory
from gpulock._gpulock import Failure
from gpulock.critical import write_down
from gpulock.errors import GpuLockError, LeaseLost, StoreUnavailable

if TYPE_CHECKING:
    from gpulock import _gpulock
    from gpulock._operation import Flow
    from gpulock.lease import Lease

logger = logging.getLogger("gpulock")

RETRY_FOR = 10.0
"""Seconds for which an unconfirmed release is tried again on new connections."""

_RETRY_PAUSE = 0.5
# Seconds that a process which is about to end may spend on its lease: its queue kills it soon.
_LAST_WORD = 0.05


def leave(lease: Lease, body: BaseException | None) -> Flow[None]:
    """Ends a lease after its task, which ended with the exception `body` or None.

    If the task itself succeeded: raises `LeaseLost` if the lease had ended before, because the
    task was not alone then, and whatever interrupted the clean-up (`KeyboardInterrupt`). In a child
    after a fork nothing happens: the lease is the parent's.
    """
    if lease.pid == os.getpid() and lease.depart():
        yield from _WayOut(lease, body).go()


def give_back(lease: Lease) -> Flow[None]:
    """Releases a lease whose holder asks for that, without freeing GPU memory.

    Raises `LeaseLost` if it had ended before, `StoreUnavailable` if the release could not be
    confirmed, `NotOwner` in a child after a fork.
    """
    lease.require_owner()
    if lease.depart():
        yield from _WayOut(lease, None).release()


class _WayOut:
    """One lease on its way out."""

    def __init__(self, lease: Lease, body: BaseException | None) -> None:
        self._lease = lease
        self._body = body
        self._interruption: BaseException | None = None
        self._loss: str | None = None
        self._unconfirmed: BaseException | None = None
        self._told = False

    def go(self) -> Flow[None]:
        """All three protections."""
        native = self._lease.native
        if self._ends_process():
            if native is not None:
                yield from self._retire(native)
            return
        self._free_memory()
        if native is not None:
            yield from self._release(native)
        self._conclude()

    def release(self) -> Flow[None]:
        """The second and third alone."""
        if self._lease.native is not None:
            yield from self._release(self._lease.native)
        self._conclude()
        if self._unconfirmed is not None:
            raise StoreUnavailable(
                f"the release of {self._lease.describe()} could not be confirmed: "
                f"{_first_line(self._unconfirmed)}",
                {"hint": "its GPUs become free at its deadline"},
            ) from self._unconfirmed

    def _ends_process(self) -> bool:
        """Whether this process is about to end: a task queue kills it within a tenth of a second,
        and until then its native code may use the GPU."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        return isinstance(self._body, SystemExit) and in_main_thread

    def _retire(self, native: _gpulock.Lease) -> Flow[None]:
        """The GPUs go on when this process is gone."""
        try:
            yield native.retire(), _LAST_WORD
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001
            self._tell("the lease could not be ended before the process", error)

    # --- 1: memory ---------------------------------------------------------------------------

    def _free_memory(self) -> None:
        try:
            errors = memory.free()
        except BaseException as interruption:  # noqa: BLE001
            errors = [interruption]
        for error in errors:
            self._note(error)
            self._tell("freeing GPU memory failed", error)

    # --- 2: release --------------------------------------------------------------------------

    def _release(self, native: _gpulock.Lease) -> Flow[None]:
        try:
            operation = yield from self._answered(native)
            operation.result()
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001
            if isinstance(error, Failure) and error.kind == "lost":
                self._lost(error.message)
                return
            self._note(error)
            yield from self._retry(native, error)

    def _answered(self, native: _gpulock.Lease) -> Flow[_gpulock.Operation[None]]:
        """The release when it is done, whatever interrupts the wait for that."""
        operation: _gpulock.Operation[None] | None = None
        while True:
            try:
                if operation is None:
                    operation = native.release(lazily=True)
                if (yield operation, None):
                    return operation
            except GeneratorExit:
                raise
            except Exception as error:
                # Of the release itself, or of a signal's handler while it is under way.
                if operation is None or not _can_be_asked(operation):
                    raise
                self._tell("a signal's handler failed in a release", error)
            except BaseException as error:  # noqa: BLE001
                self._note(error)

    # --- 3: retry, and the critical failure --------------------------------------------------

    def _retry(self, native: _gpulock.Lease, error: BaseException) -> Flow[None]:
        self._tell("the release was not confirmed", error)
        self._report(native, "normal_release_failure", error)
        if isinstance(error, Failure) and error.details.get("answered"):
            self._report(native, "release_script_error", error)
        deadline = time.monotonic() + RETRY_FOR
        while (left := deadline - time.monotonic()) > 0:
            try:
                released = yield from self._release_by_name(native, left)
            except GeneratorExit:
                raise
            except Exception as again:  # noqa: BLE001
                error = again
            except BaseException as interruption:  # noqa: BLE001
                self._note(interruption)
                break
            else:
                self._released_late(native, released, error)
                return
        self._give_up(native, error)

    def _release_by_name(self, native: _gpulock.Lease, left: float) -> Flow[bool]:
        """Once, on a new connection, and not before a pause if that fails."""
        began = time.monotonic()
        try:
            operation = native.client.again().release_named(
                native.lease_id, native.token, native.task
            )
            while not (yield operation, left):
                if time.monotonic() - began >= left:
                    raise TimeoutError("the store did not answer in time")
            return operation.result()
        except Exception:
            yield None, max(0.0, min(_RETRY_PAUSE, left - (time.monotonic() - began)))
            raise

    def _released_late(self, native: _gpulock.Lease, released: bool, error: BaseException) -> None:
        if not released:
            self._lost("it had ended before it was released")
            return
        self._report(native, "emergency_release", error)
        self._log(logging.WARNING, "%s was released on a new connection", self._lease.describe())

    def _give_up(self, native: _gpulock.Lease, error: BaseException) -> None:
        self._unconfirmed = error
        for guarded in (
            native.abandon,
            lambda: self._write_down(native, error),
            lambda: self._report(native, "critical_failure", error),
        ):
            try:
                guarded()
            except BaseException as trouble:  # noqa: BLE001
                self._note(trouble)
                self._tell("writing down a critical failure failed", trouble)

    def _write_down(self, native: _gpulock.Lease, error: BaseException) -> None:
        self._log(
            logging.CRITICAL,
            "the release of %s could not be confirmed, its GPUs become free at its deadline: %s",
            self._lease.describe(),
            _first_line(error),
        )
        write_down(
            self._lease.critical_failure_log,
            lock_key=self._lease.lock_key,
            task=native.task,
            lease_id=native.lease_id,
            token=native.token,
            error=error,
        )

    def _report(self, native: _gpulock.Lease, kind: str, error: BaseException) -> None:
        """It goes out in the background, when the store can hear it."""
        try:
            native.client.report(native.lease_id, native.task, kind, _first_line(error))
        except Exception as trouble:  # noqa: BLE001
            self._tell(f"the {kind} could not be reported", trouble)

    # --- what becomes of errors --------------------------------------------------------------

    def _lost(self, why: str) -> None:
        self._loss = why
        self._log(logging.WARNING, "%s was lost: %s", self._lease.describe(), why)

    def _note(self, error: BaseException) -> None:
        """Remembers what wants to end more than the clean-up."""
        if not isinstance(error, Exception) and self._interruption is None:
            self._interruption = error

    def _conclude(self) -> None:
        if self._body is not None:
            return
        if self._interruption is not None:
            raise self._interruption
        if self._loss is not None:
            raise LeaseLost(
                f"{self._lease.describe()} was lost while it was in use: {self._loss}",
                {"hint": "another task may have used the same GPU; `gpulock history` shows who"},
            )

    def _tell(self, what: str, error: BaseException) -> None:
        """Logs the first error of a clean-up as a warning, with its traceback."""
        level = logging.DEBUG if self._told else logging.WARNING
        self._told = True
        trace = None if isinstance(error, (Failure, GpuLockError)) else error
        self._log(level, "%s: %s", what, _first_line(error), error=trace)

    def _log(
        self, level: int, text: str, *values: object, error: BaseException | None = None
    ) -> None:
        logger.log(level, text, *values, exc_info=error, extra=self._lease.log_fields)


def _can_be_asked(operation: _gpulock.Operation[None]) -> bool:
    """Whether it makes sense to wait for it again."""
    try:
        operation.wait(0)
    except Exception:  # noqa: BLE001
        return False
    return True


def _first_line(error: BaseException) -> str:
    text = error.message if isinstance(error, (Failure, GpuLockError)) else str(error)
    return text.splitlines()[0] if text else type(error).__name__
