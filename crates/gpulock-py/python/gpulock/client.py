"""A pool of a store, to acquire from and to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpulock import _context, _process
from gpulock._acquire import acquiring
from gpulock._operation import block, completed, finish
from gpulock._options import Request
from gpulock.errors import GpuLockError
from gpulock.lease import Lease, LeaseScope, entering

if TYPE_CHECKING:
    from os import PathLike

    from typing_extensions import Unpack

    from gpulock import _gpulock
    from gpulock._operation import Flow
    from gpulock._options import Key, LeaseOptions


class Client:
    """One pool of one store.

    Clients of the same place share one connection. After a fork, and when the configuration file
    has changed, a client goes on with a new one.
    """

    def __init__(
        self,
        store: str | None = None,
        config: str | PathLike[str] | None = None,
        pool: str | None = None,
    ) -> None:
        """`store`: URL; `config`: path of the configuration file; `pool`: name. What is not said
        comes from the environment and the file. Raises `ConfigError`, and `StoreUnavailable` if the
        store cannot be opened."""
        self._key: Key = (store, None if config is None else str(config), pool)
        if not _process.is_disabled():
            _process.opened(self._key)

    def acquire(self, **options: Unpack[LeaseOptions]) -> Lease:
        """Waits for GPUs and takes them: any one where nothing is said.

        The options are those of `gpulock.LeaseOptions`. Who acquires must `release()`, or use the
        lease in a `with` block, which frees GPU memory too. Raises `GpuLockTimeout`,
        `StoreUnavailable`, `ConfigError`, `GpuLockError`.
        """
        return block(self._acquire(self._request("acquire", options)))

    async def aacquire(self, **options: Unpack[LeaseOptions]) -> Lease:
        """As `acquire()`, without blocking the event loop."""
        return await finish(self._acquire(self._request("aacquire", options)))

    def lease(self, **options: Unpack[LeaseOptions]) -> LeaseScope:
        """As `gpulock.lease()`, from this pool."""
        return LeaseScope(self._request("lease", options))

    def status(self) -> dict[str, Any]:
        """The pool: its name, GPUs, leases and queue, as an element of `pools` of
        `gpulock status --json`. Raises `StoreUnavailable`."""
        status: dict[str, Any] = self._read(self._native.status())
        return status

    def history(self, limit: int = 100, task: str | None = None) -> list[dict[str, Any]]:
        """The latest events, at most `limit` of them, the latest first; of one task if it is named.
        Raises `StoreUnavailable`."""
        events: list[dict[str, Any]] = self._read(self._native.history(limit, task))
        return events

    def counters(self) -> dict[str, Any]:
        """The running sums of the pool since it was made. Raises `StoreUnavailable`."""
        counters: dict[str, Any] = self._read(self._native.counters())
        return counters

    def heartbeat(
        self,
        task_id: str,
        status: str = "running",
        progress: float | None = None,
        message: str | None = None,
        begins: bool = False,
    ) -> None:
        """Writes a sign of life of a task, with or without a GPU, in the place of its last one.

        `status`: "running", "completed" or "failed"; `progress`: percent; `begins`: a new run,
        which starts now. Inside a lease of this pool it says so: when that lease is over and no
        other sign follows, the task counts as orphaned. Raises `StoreUnavailable`, and ValueError
        for a wrong status or id.
        """
        block(self._beat(task_id, status, progress, message, begins))

    async def aheartbeat(
        self,
        task_id: str,
        status: str = "running",
        progress: float | None = None,
        message: str | None = None,
        begins: bool = False,
    ) -> None:
        """As `heartbeat()`, without blocking the event loop."""
        await finish(self._beat(task_id, status, progress, message, begins))

    def task_heartbeats(self) -> list[dict[str, Any]]:
        """What is remembered of tasks, the latest sign of life first: `task_id`, `sign` ("active",
        "dead", "orphaned" or "finished"), `status`, `progress` (percent), `message`, `started_at`
        and `updated_at` (seconds since the Unix epoch), `last_heartbeat_seconds_ago`, `host`,
        `pid`, `lease_id`. A task is dead after `heartbeat.timeout` without a sign. Raises
        `StoreUnavailable`."""
        tasks: list[dict[str, Any]] = self._read(self._native.task_heartbeats())
        return tasks

    async def atask_heartbeats(self) -> list[dict[str, Any]]:
        """As `task_heartbeats()`, without blocking the event loop."""
        import json

        tasks: list[dict[str, Any]] = json.loads(
            await finish(completed(self._native.task_heartbeats()))
        )
        return tasks

    def forget_heartbeat(self, task_id: str) -> bool:
        """Forgets a task; False if nothing was remembered of it. Raises `StoreUnavailable`."""
        return block(completed(self._native.forget_task(task_id)))

    async def aforget_heartbeat(self, task_id: str) -> bool:
        """As `forget_heartbeat()`, without blocking the event loop."""
        return await finish(completed(self._native.forget_task(task_id)))

    @property
    def settings(self) -> dict[str, Any]:
        """The values in force by key ("gpu_lock.poll_interval"); spans in seconds."""
        return dict(_process.opened(self._key).settings)

    @property
    def store(self) -> str:
        """Where the store is; a password in it is masked."""
        return self._native.store

    @property
    def pool(self) -> str:
        """The pool's name."""
        return self._native.pool

    def __repr__(self) -> str:
        store, _, pool = self._key
        return f"<gpulock.Client store={store!r} pool={pool!r}>"

    @property
    def _native(self) -> _gpulock.Client:
        return _process.opened(self._key).client

    def _request(self, caller: str, options: Any) -> Request:
        return Request.parse(caller, dict(options), key=self._key)

    def _acquire(self, request: Request) -> Flow[Lease]:
        lease = yield from entering(request, lambda: acquiring(request))
        _context.enter(_context.Entry(lease))
        return lease

    def _beat(
        self,
        task_id: str,
        status: str,
        progress: float | None,
        message: str | None,
        begins: bool,
    ) -> Flow[None]:
        native = self._native
        sign = native.beat(
            task_id,
            status,
            progress=progress,
            message=message,
            lease_id=_lease_here(native),
            begins=begins,
        )
        return completed(sign)

    def _read(self, operation: _gpulock.Operation[str]) -> Any:
        import json

        return json.loads(block(completed(operation)))


def _lease_here(native: _gpulock.Client) -> str | None:
    """The lease of this pool around the running code."""
    if not _context.is_inside():
        return None
    try:
        held = _context.current()
    except GpuLockError:
        return None
    return held.lease_id if held.place == (native.store, native.pool) else None
