"""What the store knows about locks, in the shapes of the older system and of the HTTP API.

Nothing here is counted in this process: every process that asks gets the same answer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gpulock import _process
from gpulock._operation import block, completed
from gpulock._options import Request
from gpulock.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterable

EXCEPTIONS = (
    "normal_release_failures",
    "emergency_releases",
    "ownership_violations",
    "release_script_errors",
)
"""The four counters of what went wrong around leases."""

# Events that are looked at for rates of the recent past, for each request of the window.
_EVENTS_PER_REQUEST = 5

Figures = dict[str, Any]


class Place:
    """The GPU that a lock key names, and the store that keeps its pool."""

    def __init__(self, lock_key: str) -> None:
        request = Request.parse("get_gpu_lock_status", {"lock_key": lock_key})
        gpus = request.gpus
        self.lock_key = lock_key
        self._key = request.key
        self._client = Client(*request.key)
        self.settings = self._client.settings
        self._gpu = gpus[0] if isinstance(gpus, list) else "0"

    def counters(self) -> dict[str, int]:
        """The running sums of the pool."""
        return self._client.counters()

    def pool(self) -> dict[str, Any]:
        """The pool as `gpulock status --json` prints it."""
        return self._client.status()

    def events(self, limit: int) -> list[dict[str, Any]]:
        """The latest events of the pool, the latest first."""
        return self._client.history(limit)

    def lease_in(self, pool: dict[str, Any]) -> dict[str, Any] | None:
        """The lease that keeps this GPU, out of a pool's status."""
        for gpu in pool["gpus"]:
            if self._gpu in (str(gpu["id"]), gpu.get("uuid")) and "lease_id" in gpu:
                leases = pool["leases"]
                return next((it for it in leases if it["lease_id"] == gpu["lease_id"]), None)
        return None

    def seize(self, lease: dict[str, Any], reason: str) -> bool:
        """Takes exactly this lease away; False if it was no longer the current one."""
        native = _process.opened(self._key).client
        return block(completed(native.seize(lease["lease_id"], lease["token"], reason)))

    def window(self) -> int:
        """How many of the latest requests the recent rates are taken from."""
        return int(self._health_threshold("recent_window_size"))

    def _health_threshold(self, name: str) -> float:
        return float(self.settings[f"gpu_lock_monitor.health_thresholds.{name}"])

    def issues(self, figures: Figures, lease: dict[str, Any] | None) -> list[str]:
        """What is not as it should be, the worst last."""
        found: list[str] = []
        if figures["total_attempts"]:
            if figures["success_rate"] < self._health_threshold("min_success_rate"):
                found.append(f"low success rate: {figures['success_rate']:.0%}")
            if figures["timeout_rate"] > self._health_threshold("max_timeout_rate"):
                found.append(f"high time-out rate: {figures['timeout_rate']:.0%}")
            if figures["recent_success_rate"] < self._health_threshold("min_success_rate"):
                found.append(f"low recent success rate: {figures['recent_success_rate']:.0%}")
        if lease and lease["age_seconds"] > self._health_threshold("max_lock_age"):
            found.append(f"held for long: {lease['task']} for {lease['age_seconds']:.0f}s")
        return found

    def is_long(self, lease: dict[str, Any]) -> bool:
        """Whether a lease is older than is healthy."""
        return bool(lease["age_seconds"] > self._health_threshold("max_lock_age"))

    def is_zombie(self, lease: dict[str, Any]) -> bool:
        """Whether a lease is over, or should be, and still keeps its GPUs."""
        silent = lease["last_heartbeat_seconds_ago"]
        timeout = float(self.settings["gpu_lock_monitor.heartbeat.timeout"])
        return bool(lease["state"] == "draining" or (lease["heartbeats"] and silent > timeout))


def statistics(place: Place) -> Figures:
    """What `get_statistics()` returns."""
    counted, pool = place.counters(), place.pool()
    recent = place.events(place.window() * _EVENTS_PER_REQUEST)
    attempts = sum(counted[name] for name in ("granted", "timed_out", "dropped"))
    ended = sum(counted[name] for name in ("released", "expired", "seized"))
    granted = [event for event in recent if event["event"] == "granted"]
    last = granted[0] if granted else None
    return {
        "total_attempts": attempts,
        "successful_acquisitions": counted["granted"],
        "timeouts": counted["timed_out"],
        "success_rate": counted["granted"] / attempts if attempts else 1.0,
        "timeout_rate": counted["timed_out"] / attempts if attempts else 0.0,
        "recent_success_rate": _recent_success(recent, place.window()),
        "average_wait_time": _seconds(counted["waited_micros"]) / max(counted["granted"], 1),
        "average_execution_time": _seconds(counted["held_micros"]) / max(ended, 1),
        "total_execution_time": _seconds(counted["held_micros"]),
        "execution_count": ended,
        "last_lock_time": _seconds(last["at"]) if last else None,
        "last_lock_holder": last["task"] if last else None,
        "active_waiters": len(pool["queue"]),
        "exceptions": {name: counted[name] for name in EXCEPTIONS},
    }


def lock_health(place: Place) -> Figures:
    """What `get_lock_health()` returns."""
    figures, lease = statistics(place), place.lease_in(place.pool())
    issues = place.issues(figures, lease)
    return {
        "status": _verdict(place, issues, lease),
        "issues": issues,
        "lock_age": lease["age_seconds"] if lease else None,
        "lock_holder": lease["task"] if lease else None,
        "last_lock_holder": figures["last_lock_holder"],
        "statistics": figures,
        "timestamp": time.time(),
    }


def lock_status(place: Place) -> Figures:
    """What `get_gpu_lock_status()` returns."""
    health, lease = lock_health(place), place.lease_in(place.pool())
    figures = health.pop("statistics")
    return {
        "lock_key": place.lock_key,
        "is_locked": lease is not None,
        "lock_holder": lease["task"] if lease else None,
        "ttl_seconds": lease.get("deadline_in_seconds") if lease else None,
        "lock_age": lease["age_seconds"] if lease else None,
        "lock_type": "active" if lease else "free",
        "health": health,
        "statistics": figures,
        "recent_history": lock_history(place, 5),
        "timestamp": time.time(),
    }


def health_summary(place: Place) -> Figures:
    """What `get_gpu_lock_health_summary()` returns."""
    figures, pool = statistics(place), place.pool()
    lease = place.lease_in(pool)
    issues = place.issues(figures, lease)
    shared = ("total_attempts", "success_rate", "timeout_rate", "average_execution_time")
    return {
        "overall_status": _verdict(place, issues, lease),
        "issues_count": len(issues),
        "issues": issues,
        **{name: figures[name] for name in shared},
        "recent_success_rate": figures["recent_success_rate"],
        "lock_holder": lease["task"] if lease else None,
        "lock_age": lease["age_seconds"] if lease else None,
        "store_connected": True,
        "zombie_locks": _keys(pool, filter(place.is_zombie, pool["leases"])),
        "long_held_locks": _keys(pool, filter(place.is_long, pool["leases"])),
        "timestamp": time.time(),
    }


def without_store(error: str) -> Figures:
    """The same where the store cannot be asked."""
    return {
        "overall_status": "critical",
        "issues_count": 1,
        "issues": ["the store cannot be used"],
        "store_connected": False,
        "error": error,
        "timestamp": time.time(),
    }


def lock_history(place: Place, limit: int) -> list[Figures]:
    """What `get_lock_history()` returns: one entry for each request that got its GPUs or gave up,
    the latest last."""
    if limit < 1:
        return []
    entries: list[Figures] = []
    for event in place.events(limit * _EVENTS_PER_REQUEST):
        entry = _entry(event)
        if entry is not None:
            entries.append(entry)
    return entries[:limit][::-1]


def _entry(event: dict[str, Any]) -> Figures | None:
    success = _success(event)
    if success is None:
        return None
    waited, ended = _seconds(event["waited_micros"]), _seconds(event["at"])
    return {
        "task_name": event["task"],
        "lock_keys": [f"gpu_lock:{gpu}" for gpu in event.get("gpus", [])],
        "success": success,
        "start_time": ended - waited,
        "end_time": ended,
        "duration": waited,
        "lease_id": event["lease_id"],
    }


def _success(event: dict[str, Any]) -> bool | None:
    """Whether a request got what it asked for; None for everything else, also for one that was
    called off by whoever made it."""
    if event["event"] == "granted":
        return True
    gave_up = event["event"] == "cancelled" and event["reason"] == "timed_out"
    return False if gave_up or event["event"] == "dropped" else None


def _recent_success(events: list[dict[str, Any]], window: int) -> float:
    ends = [success for success in map(_success, events) if success is not None][:window]
    return sum(ends) / len(ends) if ends else 1.0


def _verdict(place: Place, issues: list[str], lease: dict[str, Any] | None) -> str:
    if lease and place.is_long(lease):
        return "critical"
    return "warning" if issues else "healthy"


def _keys(pool: dict[str, Any], leases: Iterable[dict[str, Any]]) -> list[str]:
    """The lock keys of the GPUs that these leases keep."""
    kept = {gpu for lease in leases for gpu in lease["gpus"]}
    return [gpu["lock_key"] for gpu in pool["gpus"] if gpu["id"] in kept]


def _seconds(micros: int) -> float:
    return micros / 1e6
