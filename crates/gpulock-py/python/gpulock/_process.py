"""The clients of this process: one for each place that is asked.

They are opened when first needed, opened anew after a fork (the parent's stay the parent's), and
replaced when their configuration file has changed. At the end of the interpreter every lease of
this process is given back.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from gpulock import _gpulock
from gpulock.errors import error_for

if TYPE_CHECKING:
    from gpulock._options import Key

logger = logging.getLogger("gpulock")

# Seconds between two looks at a configuration file.
_LOOK_AFTER = 1.0
# Seconds that the end of the interpreter waits for the store.
_LAST_PATIENCE = 1.0

_Stamp = tuple[int, int, int]


class Opened:
    """A client, and what it was opened with."""

    __slots__ = ("client", "file", "looked_at", "refused", "settings", "stamp")

    def __init__(self, key: Key, file: str | None = None) -> None:
        store, config, pool = key
        self.client = _gpulock.Client(store, file or config, pool)
        self.settings: dict[str, Any] = self.client.settings()
        found = self.client.config_file
        self.file = None if found is None else os.path.abspath(found)
        self.stamp = None if self.file is None else _stamp(self.file)
        self.looked_at = time.monotonic()
        # The state of the file that was last refused.
        self.refused: _Stamp | None = None
        for warning in self.client.warnings:
            logger.warning("%s", warning)


class _Clients:
    """Those of this process."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Opened] = {}
        self.lock = threading.Lock()
        self.told_disabled = False

    def forget_parent(self) -> None:
        """In a child after a fork: the parent's clients are not this process's."""
        self.by_key, self.lock = {}, threading.Lock()
        _gpulock.after_fork_in_child()


_clients = _Clients()


def opened(key: Key) -> Opened:
    """The client for a place. Raises `ConfigError` and `StoreUnavailable`."""
    found = _clients.by_key.get(key)
    if found is None:
        with _clients.lock:
            found = _clients.by_key.get(key)
            if found is None:
                found = _clients.by_key[key] = _open(key)
    elif found.file is not None and time.monotonic() - found.looked_at >= _LOOK_AFTER:
        found = _look_again(key, found)
    return found


def forget_clients() -> None:
    """Opens every client anew when it is next needed. Leases that are held stay held."""
    with _clients.lock:
        _clients.by_key.clear()


def is_disabled() -> bool:
    """Whether nothing is to be locked in this process (`GPULOCK_DISABLED=1`)."""
    if os.environ.get("GPULOCK_DISABLED", "").lower() not in ("1", "true", "yes", "on"):
        return False
    if not _clients.told_disabled:
        _clients.told_disabled = True
        logger.warning("GPULOCK_DISABLED is set: this process takes no locks")
    return True


def _open(key: Key) -> Opened:
    try:
        return Opened(key)
    except _gpulock.Failure as failure:
        raise error_for(failure) from None


def _look_again(key: Key, found: Opened) -> Opened:
    """Opens the client anew if its file has changed; one caller at a time looks."""
    if found.file is None or not _clients.lock.acquire(blocking=False):
        return found
    try:
        found.looked_at = time.monotonic()
        stamp = _stamp(found.file)
        # Without a file it is probably being replaced, and the store could be another one.
        if stamp in (None, found.stamp, found.refused):
            return found
        found.refused = stamp
        _clients.by_key[key] = fresh = Opened(key, found.file)
        logger.info("%s has changed and is in force", found.file)
        return fresh
    except _gpulock.Failure as failure:
        hint = f"\nhint: {failure.hint}" if failure.hint else ""
        text = "%s has changed but is refused, the old values stay: %s%s"
        logger.error(text, found.file, failure.message, hint)
        return found
    finally:
        _clients.lock.release()


def _stamp(file: str) -> _Stamp | None:
    try:
        facts = os.stat(file)
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


os.register_at_fork(
    before=_gpulock.before_fork,
    after_in_parent=_gpulock.after_fork_in_parent,
    after_in_child=_clients.forget_parent,
)
# Registered at import, so it runs after the exit functions of the user's own modules.
atexit.register(_gpulock.shutdown, _LAST_PATIENCE)
