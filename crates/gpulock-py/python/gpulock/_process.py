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
    """A client, and the state of the file that it was made from."""

    __slots__ = ("client", "file", "looked_at", "refused", "settings", "stamp")

    def __init__(self, client: _gpulock.Client, stamp: _Stamp | None = None) -> None:
        """`stamp`: of the file before it was read, where that is known."""
        self.client = client
        self.settings: dict[str, Any] = client.settings()
        found = client.config_file
        self.file = None if found is None else os.path.abspath(found)
        self.stamp = _stamp(self.file) if stamp is None and self.file is not None else stamp
        self.looked_at = time.monotonic()
        # The state of the file that was last refused.
        self.refused: _Stamp | None = None
        for warning in client.warnings:
            logger.warning("%s", warning)


class _Clients:
    """Those of this process."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Opened] = {}
        # Those of the parent at the fork, for their values.
        self.inherited: dict[Key, Opened] = {}
        self.lock = threading.Lock()
        self.told_disabled = False
        # What was said of which state of a file.
        self.told: dict[tuple[str, str], _Stamp | None] = {}

    def forget_parent(self) -> None:
        """In a child after a fork: the parent's clients are not this process's."""
        self.inherited = {**self.inherited, **self.by_key}
        self.by_key, self.lock = {}, threading.Lock()
        _gpulock.after_fork_in_child()

    def tell_once(self, level: int, file: str, stamp: _Stamp | None, text: str) -> None:
        """Says something of a state of a file, which several clients may find out."""
        if self.told.get((file, text), ()) != stamp:
            self.told[file, text] = stamp
            logger.log(level, "%s", text)


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
        _clients.inherited.clear()


def is_disabled() -> bool:
    """Whether nothing is to be locked in this process (`GPULOCK_DISABLED=1`)."""
    if os.environ.get("GPULOCK_DISABLED", "").lower() not in ("1", "true", "yes", "on"):
        return False
    if not _clients.told_disabled:
        _clients.told_disabled = True
        logger.warning("GPULOCK_DISABLED is set: this process takes no locks")
    return True


def _open(key: Key) -> Opened:
    parents = _clients.inherited.get(key)
    try:
        if parents is not None and parents.file is not None:
            return _inherit(parents)
        store, config, pool = key
        return Opened(_gpulock.Client(store, config, pool))
    except _gpulock.Failure as failure:
        raise error_for(failure) from None


def _inherit(parents: Opened) -> Opened:
    """What a child of a fork goes on with: the present file, or its parent's values."""
    assert parents.file is not None
    stamp = _stamp(parents.file)
    try:
        client, pinned = parents.client.inherited()
    except _gpulock.Failure as failure:
        if failure.kind != "config":
            raise
        _tell_refusal(parents.file, stamp, failure)
        client, _ = parents.client.inherited(as_it_was=True)
        fresh = Opened(client, parents.stamp)
        fresh.refused = stamp
        return fresh
    _tell_pinned(parents.file, stamp, pinned)
    return Opened(client, stamp)


def _look_again(key: Key, found: Opened) -> Opened:
    """Takes the file over if it has changed; one caller at a time looks."""
    if found.file is None or not _clients.lock.acquire(blocking=False):
        return found
    stamp = None
    try:
        found.looked_at = time.monotonic()
        stamp = _stamp(found.file)
        # Without a file it is probably being replaced.
        if stamp in (None, found.stamp, found.refused):
            return found
        found.refused = stamp
        client, pinned = found.client.renewed()
        _clients.by_key[key] = fresh = Opened(client, stamp)
        _clients.tell_once(logging.INFO, found.file, stamp, f"{found.file} is in force as changed")
        _tell_pinned(found.file, stamp, pinned)
        return fresh
    except _gpulock.Failure as failure:
        _tell_refusal(found.file, stamp, failure)
        return found
    finally:
        _clients.lock.release()


def _tell_refusal(file: str, stamp: _Stamp | None, failure: _gpulock.Failure) -> None:
    hint = f"\nhint: {failure.hint}" if failure.hint else ""
    text = f"{file} has changed but is refused, the old values stay: {failure.message}{hint}"
    _clients.tell_once(logging.ERROR, file, stamp, text)


def _tell_pinned(file: str, stamp: _Stamp | None, keys: list[str]) -> None:
    if not keys:
        return
    text = (
        f"{file} names another {' and '.join(keys)}, which this process does not take over\n"
        "hint: restart it, and everything else that uses the old one"
    )
    _clients.tell_once(logging.ERROR, file, stamp, text)


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
