"""Alerts and critical failures by their older names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gpulock import _process
from gpulock.critical import write_down
from gpulock.errors import GpuLockError
from gpulock.lease import current

if TYPE_CHECKING:
    from gpulock.lease import Lease

logger = logging.getLogger("gpulock")

_CRITICAL_FAILURE = "gpu_lock_critical_failure"

_LEVELS = {
    "P0": logging.CRITICAL,
    "P1": logging.ERROR,
    "P2": logging.WARNING,
    "WARNING": logging.WARNING,
    "INFO": logging.INFO,
}


def send_alert(alert_type: str, data: Mapping[str, Any] | None = None) -> None:
    """Raises an alert: `gpulock serve` tells those who are to hear of it, as `alerts` in config.yml
    says. It is also written to the log `gpulock`, at the level that `data["level"]` means (P0, P1,
    P2, warning or info; P1 where there is none). Returns at once and raises nothing."""
    facts = dict(data or {})
    level = str(facts.pop("level", "P1"))
    level = level if level.upper() in _LEVELS else "P1"
    _log(alert_type, level, facts)
    try:
        _raise(alert_type, level, facts)
    except Exception:
        logger.exception("the alert %s could not be passed on", alert_type)


def _log(alert_type: str, level: str, facts: Mapping[str, Any]) -> None:
    logger.log(_LEVELS[level.upper()], "alert %s (%s): %s", alert_type, level, dict(facts))


def _raise(alert_type: str, level: str, facts: dict[str, Any]) -> None:
    if _process.is_disabled():
        return
    message = str(facts.pop("message", "") or alert_type)
    try:
        held = current()
    except GpuLockError:
        held = None
    native = held.native if held else None
    client = native.client if native else _process.opened((None, None, None)).client
    lease = (held.lease_id, held.task) if held and native else None
    texts = {str(name): str(value) for name, value in facts.items()}
    client.raise_alert((alert_type, level), message, texts, lease)


def record_critical_failure(lock_key: str, task_name: str, error: BaseException | str) -> None:
    """Appends a line to the critical failure log, and writes an event to the store if the lease of
    that lock is held here. Raises nothing."""
    held = _held_here(lock_key)
    try:
        write_down(
            _log_file(),
            lock_key=lock_key,
            task=task_name,
            lease_id=held.lease_id if held else "",
            token=held.token if held else 0,
            error=error,
        )
        if held is not None and held.native is not None:
            held.native.client.report(held.lease_id, held.task, "critical_failure", str(error))
    except Exception:
        logger.critical("a critical failure could not be written down", exc_info=True)
    message = f"critical failure of the GPU lock {lock_key}: {error}"
    facts = {"message": message, "lock_key": lock_key, "task": task_name}
    if held is None:
        send_alert(_CRITICAL_FAILURE, {"level": "P0", **facts})
    else:  # The event of the lease is the alert.
        _log(_CRITICAL_FAILURE, "P0", facts)


def _held_here(lock_key: str) -> Lease | None:
    """The lease around the running code, if the lock is one of its GPUs."""
    try:
        held = current()
    except GpuLockError:
        return None
    return held if lock_key in held.lock_key.split(",") else None


def _log_file() -> str | None:
    """As configured; None if that cannot be read."""
    try:
        return str(_process.opened((None, None, None)).settings["critical_failure_log"])
    except GpuLockError:
        return None
