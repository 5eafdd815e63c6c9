"""How far the work is, told by code that does not know who holds its lease."""

from __future__ import annotations

import os
import select
import stat

from gpulock import _context

# What a pipe takes in one piece, also from several writers at once.
_LONGEST_LINE = 4096


def progress(percent: float, message: str = "") -> None:
    """Tells how far the work is: `percent` from 0 to 100, and a word for people.

    It goes to the lease that is held here (see `gpulock.current`, `Lease.progress`), else to the
    `gpulock run` under which this process works. Where there is neither, nothing happens. Does not
    wait. Raises what `Lease.progress` raises.
    """
    lease = _context.innermost()
    if lease is not None:
        lease.progress(percent, message)
        return
    descriptor = _descriptor()
    if descriptor is not None:
        _write(descriptor, float(percent), str(message))


def _descriptor() -> int | None:
    """The pipe that `gpulock run` listens to, if this process has it."""
    try:
        number = int(os.environ["GPULOCK_PROGRESS_FD"])
        identity = int(os.environ["GPULOCK_PROGRESS_PIPE"])
        facts = os.fstat(number)
    except (KeyError, ValueError, OverflowError, OSError):
        return None
    # A child that did not inherit the pipe may have something else under its number.
    is_it = stat.S_ISFIFO(facts.st_mode) and facts.st_ino == identity
    return number if is_it else None


def _write(descriptor: int, percent: float, message: str) -> None:
    bounded = max(0.0, min(100.0, percent))
    line = f"progress {bounded:.2f} {' '.join(message.split())}".encode(errors="replace")
    whole = line[: _LONGEST_LINE - 1].decode(errors="ignore").encode()
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    try:
        # A full pipe would keep the caller waiting, and what is in it is news enough. Anything else
        # than room means that nobody listens any more.
        if [events for _, events in poll.poll(0)] == [select.POLLOUT]:
            os.write(descriptor, whole + b"\n")
    except OSError:
        return
