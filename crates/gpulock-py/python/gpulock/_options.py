"""The options of a request: the same names in `lease()`, `gpu_lock()` and `Client.acquire()`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal

    from typing_extensions import TypedDict

    from gpulock.lease import Lease

    class LeaseOptions(TypedDict, total=False):
        """Everything that can be asked for. What is left out comes from the configuration."""

        task: str
        """What the work is called, for people."""
        gpus: int | Sequence[int | str]
        """Any so many GPUs, or exactly those of a list (indices or UUIDs)."""
        lock_key: str
        """One GPU by its older name: "gpu_lock:0", or "gpu_lock:POOL/1" in another pool."""
        priority: Literal["low", "normal", "high", "urgent"]
        """Who goes first; "normal" where nothing is said."""
        max_wait_time: float | None
        """Seconds to wait before `GpuLockTimeout`; 0 does not queue, infinity waits for ever."""
        timeout: float | None
        """Seconds after which the holder is asked to stop. The lease itself lasts as long as its
        holder lives."""
        poll_interval: float
        """Seconds until the first look at the queue in case a wake-up was lost."""
        heartbeat_interval: float
        """Seconds between two heartbeats."""
        heartbeat_timeout: float
        """Seconds without a heartbeat after which the lease is over."""
        reentrant: bool
        """Whether a request inside a lease that covers it uses that lease (the default)."""
        raise_on_stop: bool
        """Whether `check()` and `progress()` raise `StopRequested`."""
        on_lost: Callable[[Lease], object]
        """Called when the lease is lost, on a thread for such calls."""
        on_stop: Callable[[Lease], object]
        """Called when the holder is asked to stop."""
        on_danger: Callable[[Lease], object]
        """Called when a heartbeat is overdue: the lease may soon be lost."""
        store: str
        """URL of the store."""
        config: str
        """Path of the configuration file."""
        pool: str
        """The pool that is asked."""
        on_store_error: Literal["fail", "wait", "run_unlocked"]
        """What happens when the store cannot be used."""
        set_visible_devices: bool
        """Whether CUDA_VISIBLE_DEVICES of this process names the lease's GPUs while it is held."""

    class GpuLockOptions(LeaseOptions, total=False):
        """What `gpu_lock()` knows besides."""

        wait: Literal["block", "retry"]
        """Whether a task of a task queue keeps its worker's slot while it waits ("block"), or gives
        it back and is run again ("retry")."""
        when: bool | Callable[..., object]
        """Whether a call needs the lock at all, or a function of the call's arguments that says
        so."""


Key = tuple["str | None", "str | None", "str | None"]
"""Which client a request goes to: store, configuration file, pool, as the caller named them."""

_OPTIONS: dict[str, Any] = {
    "task": None,
    "gpus": None,
    "lock_key": None,
    "priority": "normal",
    "max_wait_time": None,
    "timeout": None,
    "poll_interval": None,
    "heartbeat_interval": None,
    "heartbeat_timeout": None,
    "reentrant": True,
    "raise_on_stop": False,
    "on_lost": None,
    "on_stop": None,
    "on_danger": None,
    "store": None,
    "config": None,
    "pool": None,
    "on_store_error": None,
    "set_visible_devices": False,
}
_OF_THE_DECORATOR: dict[str, Any] = {"wait": "block", "when": True}
_CHOICES = {
    "priority": ("low", "normal", "high", "urgent"),
    "on_store_error": ("fail", "wait", "run_unlocked"),
    "wait": ("block", "retry"),
}
_SECONDS = ("max_wait_time", "timeout", "poll_interval", "heartbeat_interval", "heartbeat_timeout")


class Request:
    """What is asked for, checked."""

    __slots__ = (
        "gpus",
        "heartbeat_interval",
        "heartbeat_timeout",
        "key",
        "label",
        "max_wait_time",
        "on_danger",
        "on_lost",
        "on_stop",
        "on_store_error",
        "poll_interval",
        "priority",
        "raise_on_stop",
        "reentrant",
        "set_visible_devices",
        "task",
        "timeout",
        "wait",
        "wanted",
        "when",
    )

    task: str | None
    label: str | None
    """What the work is called if neither the caller nor a task queue says."""
    gpus: int | list[str]
    wanted: str
    """The GPUs, for people."""
    priority: str
    max_wait_time: float | None
    timeout: float | None
    poll_interval: float | None
    heartbeat_interval: float | None
    heartbeat_timeout: float | None
    reentrant: bool
    raise_on_stop: bool
    on_lost: Callable[[Lease], object] | None
    on_stop: Callable[[Lease], object] | None
    on_danger: Callable[[Lease], object] | None
    key: Key
    on_store_error: str | None
    set_visible_devices: bool
    wait: str
    when: bool | Callable[..., object]

    @classmethod
    def parse(
        cls,
        caller: str,
        options: dict[str, Any],
        *,
        default: int | list[str] = 1,
        key: Key = (None, None, None),
    ) -> Request:
        """Checks the options of `caller`, which asks for `default` GPUs and goes to `key` where
        they say nothing. Raises TypeError and ValueError."""
        known = {**_OPTIONS, **_OF_THE_DECORATOR} if caller == "gpu_lock" else _OPTIONS
        _check_names(caller, options, known)
        values = {**_OPTIONS, **_OF_THE_DECORATOR, **options}
        _check_values(values)
        gpus, pool = _wish(values, default)
        request = cls()
        for name in cls.__slots__:
            if name in values:
                setattr(request, name, values[name])
        request.label = None
        request.gpus = gpus
        request.wanted = _in_words(gpus)
        store, config, own_pool = key
        request.key = (
            values["store"] or store,
            _path(values["config"]) or config,
            pool or own_pool,
        )
        return request

    @property
    def waits_forever(self) -> bool:
        """Whether it never gives up."""
        return self.max_wait_time == math.inf


def _path(config: object) -> str | None:
    return None if config is None else str(config)


def _check_names(caller: str, options: dict[str, Any], known: Iterable[str]) -> None:
    known = list(known)
    for name in options:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, 1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; it knows {', '.join(known)}"
            raise TypeError(f"{caller}() has no option {name!r}{meant}")


def _check_values(values: dict[str, Any]) -> None:
    for name, choices in _CHOICES.items():
        if values[name] is not None and values[name] not in choices:
            raise ValueError(f"{name} is one of {', '.join(choices)}, not {values[name]!r}")
    for name in _SECONDS:
        span = values[name]
        if span is None:
            continue
        if isinstance(span, bool) or not isinstance(span, (int, float)):
            raise TypeError(f"{name} is a number of seconds, not {span!r}")
        may_be_zero = name == "max_wait_time"
        if math.isnan(span) or span < 0 or (span == 0 and not may_be_zero):
            raise ValueError(f"{name} is a positive number of seconds, not {span!r}")
        if span == math.inf and name not in ("max_wait_time", "timeout"):
            raise ValueError(f"{name} is a finite number of seconds")
    for name in ("on_lost", "on_stop", "on_danger"):
        if values[name] is not None and not callable(values[name]):
            raise TypeError(f"{name} is a function that takes the lease, not {values[name]!r}")
    if not isinstance(values["when"], bool) and not callable(values["when"]):
        raise TypeError(f"when is a bool or a function of the call, not {values['when']!r}")


def _wish(values: dict[str, Any], default: int | list[str]) -> tuple[int | list[str], str | None]:
    """The GPUs, and the pool if it is named."""
    gpus, lock_key, pool = values["gpus"], values["lock_key"], values["pool"]
    if lock_key is not None:
        if gpus is not None:
            raise ValueError("lock_key and gpus both name GPUs; give one of them")
        gpu, key_pool = _lock_key(lock_key)
        if pool is not None and key_pool is not None and pool != key_pool:
            raise ValueError(f"lock_key {lock_key!r} names another pool than pool={pool!r}")
        return [gpu], pool or key_pool or "default"
    if gpus is None:
        return default, pool
    return _gpus(gpus), pool


def _lock_key(lock_key: object) -> tuple[str, str | None]:
    text = str(lock_key)
    prefix, _, place = text.partition(":")
    pool, slash, gpu = place.rpartition("/")
    if prefix != "gpu_lock" or not gpu or (slash and not pool):
        raise ValueError(f"a lock key looks like gpu_lock:0 or gpu_lock:POOL/0, not {text!r}")
    return gpu, pool or None


def _gpus(gpus: object) -> int | list[str]:
    if isinstance(gpus, (bool, str, bytes)) or not isinstance(gpus, (int, Iterable)):
        raise TypeError(f"gpus is a number of GPUs or a list of indices or UUIDs, not {gpus!r}")
    if isinstance(gpus, int):
        if gpus < 1:
            raise ValueError(f"a request names at least one GPU, not {gpus}")
        return gpus
    names: list[str] = []
    for gpu in cast("Iterable[object]", gpus):
        if isinstance(gpu, bool) or not isinstance(gpu, (int, str)):
            raise TypeError(f"a GPU is an index or a UUID, not {gpu!r}")
        names.append(str(gpu))
    if not names:
        raise ValueError("a request names at least one GPU")
    return names


def _in_words(gpus: int | list[str]) -> str:
    if isinstance(gpus, int):
        return "any GPU" if gpus == 1 else f"any {gpus} GPUs"
    if len(gpus) == 1:
        return f"GPU {gpus[0]}"
    return f"GPUs {', '.join(gpus[:-1])} and {gpus[-1]}"
