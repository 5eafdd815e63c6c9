"""Calls `on_lost`, `on_stop` and `on_danger`: on one thread of its own, never the native one."""

from __future__ import annotations

import atexit
import logging
import os
import select
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gpulock._gpulock import Watch
    from gpulock.lease import Lease

logger = logging.getLogger("gpulock")

# Seconds that the end of the interpreter waits for a callback to return.
_LAST_PATIENCE = 1.0


class Watched:
    """A lease whose changes are told. It does not keep the lease alive."""

    def __init__(self, lease: Lease, watch: Watch) -> None:
        request = lease.request
        self._lease = weakref.ref(lease)
        self._on_lost = request.on_lost
        self._on_stop = request.on_stop
        self._on_danger = request.on_danger
        self._health = "held"
        self.watch = watch
        self.descriptor = watch.fileno()
        # Monotonic time at which the lease is old enough for its holder to stop.
        self.due = lease.ends_at if self._on_stop is not None else None
        self.is_over = False

    def tell(self) -> None:
        """Calls what is to be called now."""
        state, lease = self.watch.state(), self._lease()
        if lease is None or self.is_over:
            self.is_over = True
            return
        before, self._health = self._health, state.health
        if state.health == "danger" and before != "danger":
            self._call(self._on_danger, lease)
        if lease.stop_reason is not None:
            on_stop, self._on_stop, self.due = self._on_stop, None, None
            self._call(on_stop, lease)
        if state.health == "lost" and before != "lost":
            self._call(self._on_lost, lease)

    def _call(self, callback: Callable[[Lease], object] | None, lease: Lease) -> None:
        if callback is None or self.is_over:
            return
        try:
            callback(lease)
        except BaseException:
            logger.exception(
                "a callback of the lease of %s failed", lease.task, extra=lease.log_fields
            )


class _Watcher:
    """The thread, which ends when nothing is watched any more."""

    def __init__(self) -> None:
        self.forget_parent()

    def forget_parent(self) -> None:
        """Begins anew; in a child after a fork the thread is the parent's."""
        self._lock = threading.Lock()
        self._watched: dict[int, Watched] = {}
        self._wake: int | None = None
        self._thread: threading.Thread | None = None
        self._is_over = False

    def add(self, watched: Watched) -> None:
        """Watches a lease from now on."""
        with self._lock:
            if self._is_over:
                return
            self._watched[watched.descriptor] = watched
            if self._thread is None:
                heard, self._wake = os.pipe()
                os.set_blocking(self._wake, False)
                self._thread = threading.Thread(
                    target=self._run, args=(heard,), name="gpulock-callbacks", daemon=True
                )
                self._thread.start()
            self._ring()

    def drop(self, watched: Watched) -> None:
        """Watches a lease no longer; no further callback begins."""
        watched.is_over = True
        with self._lock:
            self._ring()

    def end(self) -> None:
        """Ends the thread; waits for a callback that is running, but not for long."""
        with self._lock:
            self._is_over = True
            thread = self._thread
            self._ring()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_LAST_PATIENCE)

    def _ring(self) -> None:
        if self._wake is not None:
            # Full, it is heard anyway.
            with suppress(BlockingIOError):
                os.write(self._wake, b"!")

    def _run(self, heard: int) -> None:
        poller = select.poll()
        poller.register(heard, select.POLLIN)
        known: dict[int, Watched] = {}
        while self._keep_up(poller, known):
            ready = {descriptor for descriptor, _ in poller.poll(_pause(known.values()))}
            if heard in ready:
                os.read(heard, 4096)
            now = time.monotonic()
            for watched in list(known.values()):
                is_due = watched.due is not None and watched.due <= now
                if watched.descriptor in ready or is_due:
                    watched.tell()
        os.close(heard)

    def _keep_up(self, poller: select.poll, known: dict[int, Watched]) -> bool:
        """Takes in what was added and dropped; whether there is anything left to watch."""
        with self._lock:
            for descriptor, watched in list(self._watched.items()):
                if watched.is_over:
                    del self._watched[descriptor]
            for descriptor in known.keys() - self._watched.keys():
                poller.unregister(descriptor)
                known.pop(descriptor).watch.close()
            for descriptor in self._watched.keys() - known.keys():
                known[descriptor] = self._watched[descriptor]
                poller.register(descriptor, select.POLLIN)
            if self._watched and not self._is_over:
                return True
            if self._wake is not None:
                os.close(self._wake)
            self._wake = self._thread = None
            return False


def _pause(watched: Iterable[Watched]) -> float | None:
    """Milliseconds until the next lease is old enough."""
    dues = [one.due for one in watched if one.due is not None]
    return None if not dues else max(0.0, min(dues) - time.monotonic()) * 1000 + 1


watcher = _Watcher()

os.register_at_fork(after_in_child=watcher.forget_parent)
atexit.register(watcher.end)
