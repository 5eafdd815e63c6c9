"""`gpu_lock` with the older signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from gpulock import decorator

if TYPE_CHECKING:
    from collections.abc import Callable

_F = TypeVar("_F", bound="Callable[..., Any]")

DEFAULT_KEY = "gpu_lock:0"
"""GPU 0 of the configured pool."""


@overload
def gpu_lock(lock_key: _F) -> _F: ...
@overload
def gpu_lock(
    lock_key: str = DEFAULT_KEY,
    timeout: float | None = None,
    poll_interval: float | None = None,
    max_wait_time: float | None = None,
    event_driven: bool | None = None,
    fallback_timeout: float | None = None,
) -> Callable[[_F], _F]: ...
def gpu_lock(  # noqa: PLR0913, PLR0917 (the older signature)
    lock_key: Any = DEFAULT_KEY,
    timeout: float | None = None,
    poll_interval: float | None = None,
    max_wait_time: float | None = None,
    event_driven: bool | None = None,
    fallback_timeout: float | None = None,
) -> Any:
    """Runs a function, method or task while it holds the GPU of `lock_key`.

    `timeout`: seconds after which the holder is asked to stop; it keeps the GPU until it has
    ended. `poll_interval`, `max_wait_time`: seconds, else as configured. `event_driven` and
    `fallback_timeout` are accepted and not used: `config.yml` decides that.

    Raises `GpuLockTimeout`, whose text contains `GPU_LOCK_TIMEOUT`, when the GPU did not become
    free in time, and `StoreUnavailable` where the older one ran without a lock.
    """
    del event_driven, fallback_timeout
    if callable(lock_key):
        return gpu_lock()(lock_key)
    given = {
        "timeout": timeout,
        "poll_interval": poll_interval,
        "max_wait_time": max_wait_time,
    }
    options: dict[str, Any] = {name: span for name, span in given.items() if span is not None}
    return decorator.gpu_lock(lock_key=lock_key, **options)
