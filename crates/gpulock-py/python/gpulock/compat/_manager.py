"""`lock_manager`, and the functions around it that look at a lock or free it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gpulock import _process
from gpulock.client import Client
from gpulock.compat import _figures, _held
from gpulock.compat._decorator import DEFAULT_KEY
from gpulock.errors import GpuLockError, GpuLockTimeout, LeaseLost

if TYPE_CHECKING:
    from gpulock.compat._figures import Figures

logger = logging.getLogger("gpulock")

# Older keys of a configuration, and the options that they mean. The others are those of config.yml.
_OPTIONS = {
    "max_wait_time": "max_wait_time",
    "poll_interval": "poll_interval",
    "lock_timeout": "timeout",
}
_MAY_BE_ZERO = "max_wait_time"


class SmartGpuLockManager:
    """Takes and frees locks by the name of a task. All managers of a process are one."""

    def __init__(self) -> None:
        self.exception_stats = ExceptionStats()

    def acquire_lock_with_smart_polling(
        self,
        task_name: str,
        lock_key: str = DEFAULT_KEY,
        config: Mapping[str, Any] | None = None,
    ) -> bool:
        """Waits for the GPU of `lock_key`, and keeps it until `release_lock` is called in the same
        thread or asyncio task, or the process ends.

        `config`: `max_wait_time`, `poll_interval` and `lock_timeout` (seconds) count before those
        of config.yml. False if the GPU did not become free in time. Everything else is raised: a
        store that cannot be used is not a busy GPU.
        """
        options = _options(config or {})
        try:
            lease = Client().acquire(lock_key=lock_key, task=task_name, **options)
        except GpuLockTimeout as busy:
            logger.warning("%s does not get %s: %s", task_name, lock_key, busy.message)
            return False
        _held.put(_held.Held(task_name, lock_key, lease))
        return True

    def release_lock(
        self, task_name: str, lock_key: str = DEFAULT_KEY, reason: str = "normal"
    ) -> bool:
        """Frees what this thread or asyncio task took under this name. False, and nothing is freed,
        if it took nothing; False too if the lease was lost meanwhile, or if its release could not
        be confirmed: then it runs out by itself. Raises nothing because of the store."""
        held = _held.take(task_name, lock_key)
        if held is None:
            logger.warning("%s frees %s, which it does not hold here", task_name, lock_key)
            return False
        if reason != "normal":
            logger.info("%s frees %s: %s", task_name, lock_key, reason)
        try:
            held.give_back()
        except LeaseLost as lost:
            logger.warning("%s had lost %s: %s", task_name, lock_key, lost.message)
            return False
        except GpuLockError as error:
            logger.error("%s could not free %s: %s", task_name, lock_key, error)
            return False
        return True

    def get_statistics(self, lock_key: str = DEFAULT_KEY) -> Figures:
        """Attempts, rates and mean times of the pool since it began, and of the recent past."""
        return _figures.statistics(_figures.Place(lock_key))

    def get_lock_health(self, lock_key: str = DEFAULT_KEY) -> Figures:
        """Whether the lock is healthy, and why not: `status` is healthy, warning or critical."""
        return _figures.lock_health(_figures.Place(lock_key))

    def get_lock_history(self, limit: int = 10, lock_key: str = DEFAULT_KEY) -> list[Figures]:
        """The latest requests of the pool that got their GPU or gave up, the latest last."""
        return _figures.lock_history(_figures.Place(lock_key), limit)


class ExceptionStats(Mapping[str, int]):
    """What went wrong around leases, as the store has counted it.

    The older code adds to these figures by itself. That is accepted and changes nothing.
    """

    def __getitem__(self, name: str) -> int:
        if name not in _figures.EXCEPTIONS:
            raise KeyError(name)
        return _figures.Place(DEFAULT_KEY).counters()[name]

    def __setitem__(self, name: str, value: int) -> None:
        logger.info("exception_stats[%r] is counted by the store; the new value is ignored", name)

    def __iter__(self) -> Iterator[str]:
        return iter(_figures.EXCEPTIONS)

    def __len__(self) -> int:
        return len(_figures.EXCEPTIONS)

    def copy(self) -> dict[str, int]:
        """The four figures as they are now, read at once."""
        counted = _figures.Place(DEFAULT_KEY).counters()
        return {name: counted[name] for name in self}

    def __repr__(self) -> str:
        return f"ExceptionStats({self.copy()!r})"


lock_manager = SmartGpuLockManager()
"""The one that everybody uses."""


def get_gpu_lock_config() -> Figures:
    """The sections `gpu_lock` and `gpu_lock_monitor` with the values in force (seconds).

    The values of `gpu_lock` also stand at the top, where the older function had them.
    """
    settings = _process.opened((None, None, None)).settings
    sections: dict[str, Any] = {"gpu_lock": {}, "gpu_lock_monitor": {}}
    for path, value in settings.items():
        *groups, name = path.split(".")
        if groups and groups[0] in sections:
            section = sections
            for group in groups:
                section = section.setdefault(group, {})
            section[name] = value
    return {**sections["gpu_lock"], **sections}


def get_gpu_lock_status(lock_key: str = DEFAULT_KEY) -> Figures:
    """Who holds the GPU of `lock_key`, since when, and how the lock has been doing. `{"error": …}`
    if the store cannot be asked."""
    try:
        return _figures.lock_status(_figures.Place(lock_key))
    except GpuLockError as error:
        return {"lock_key": lock_key, "error": str(error)}


def get_gpu_lock_health_summary(lock_key: str = DEFAULT_KEY) -> Figures:
    """The health of the pool in few figures. If the store cannot be asked it is critical, and
    `error` says why."""
    try:
        return _figures.health_summary(_figures.Place(lock_key))
    except GpuLockError as error:
        return _figures.without_store(str(error))


def release_gpu_lock(
    lock_key: str = DEFAULT_KEY, task_name: str | None = None, reason: str = "manual"
) -> bool:
    """Takes the GPU of `lock_key` away from whoever holds it: exactly from the lease that it found,
    by its id and token. With `task_name` only if that task holds it. False if nobody does, or if
    the lease ended meanwhile.

    The GPU goes on when the processes of that lease are gone. Raises `StoreUnavailable`.
    """
    place = _figures.Place(lock_key)
    found = place.lease_in(place.pool())
    who = found and f"{found['task']} (pid {found['pid']} on {found['host']})"
    if found is None or found["state"] == "draining":
        logger.warning("%s is not taken from anybody: nobody holds it", lock_key)
        return False
    if task_name not in (None, "manual", found["task"]):
        logger.warning("%s is not taken from %s: %s does not hold it", lock_key, who, task_name)
        return False
    is_seized = place.seize(found, reason)
    logger.warning(
        "%s %s %s, lease %s: %s",
        lock_key,
        "is taken from" if is_seized else "was no longer held by",
        who,
        found["lease_id"],
        reason,
    )
    return is_seized


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """What an older configuration means as options; 0 and None stand for what is configured."""
    options: dict[str, Any] = {}
    for older, name in _OPTIONS.items():
        span = config.get(older)
        if span is not None and (span > 0 or older == _MAY_BE_ZERO):
            options[name] = span
    return options
