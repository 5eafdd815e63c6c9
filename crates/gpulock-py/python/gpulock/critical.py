"""The critical failure log: a JSON line for every release that could not be confirmed."""

from __future__ import annotations

import logging
import os
from typing import Any

logger = logging.getLogger("gpulock")

DEFAULT_LOG = "/var/log/gpulock/critical_failures.jsonl"


def write_down(  # noqa: PLR0913
    log: str | None,
    *,
    lock_key: str,
    task: str,
    lease_id: str,
    token: int,
    error: BaseException | str,
) -> str | None:
    """Appends a record to the log (None: the default one), in one write.

    Where the log cannot be written the record goes to `critical_failures.jsonl` in the user's state
    folder. The file that has it comes back; None if there is none, then the program's own log does.
    """
    record = _record(lock_key, task, lease_id, token, error)
    chosen = log or DEFAULT_LOG
    for file in (chosen, _own_log()):
        try:
            _append(file, record)
        except OSError as trouble:
            logger.error("the critical failure log %s cannot be written: %s", file, trouble)
        else:
            if file != chosen:
                logger.error("the critical failure was written to %s instead", file)
            return file
    logger.critical("this critical failure is written nowhere else: %s", record)
    return None


def _record(lock_key: str, task: str, lease_id: str, token: int, error: BaseException | str) -> str:
    import json
    import socket
    import traceback
    from datetime import datetime, timezone

    trace = traceback.format_exception(error) if isinstance(error, BaseException) else []
    facts: dict[str, Any] = {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "lock_key": lock_key,
        "task": task,
        "lease_id": lease_id,
        "token": token,
        "error": str(error),
        "traceback": "".join(trace),
    }
    return json.dumps(facts, ensure_ascii=False)


def _own_log() -> str:
    state = os.environ.get("XDG_STATE_HOME", "")
    if not state.startswith("/"):
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "gpulock", "critical_failures.jsonl")


def _append(file: str, line: str) -> None:
    os.makedirs(os.path.dirname(file) or ".", mode=0o700, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode(errors="backslashreplace"))
    finally:
        os.close(descriptor)
