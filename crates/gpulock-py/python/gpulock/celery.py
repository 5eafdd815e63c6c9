"""gpulock in Celery workers.

`@gpu_lock()` below `@app.task` is all that a task needs; `GpuTask` is a base class for those who
prefer one. This module tells the decorator in which run of which task it is called
(`attempt_for`), gives the worker's slot back while a task waits with `wait="retry"`, and listens to
Celery's signals.

**Deliveries.** A broker may deliver one message more than once. The lease's id is derived from the
task's id, its number of own retries and the function, so every delivery of one message asks for the
same lease, and of two that live at the same time the second is a `DuplicateTask`, which Celery
ignores. The next own retry of the task is another lease: its message is out before the retrying run
has given its GPU back, and it must wait for that, not be taken for a copy.

**Waiting by retry.** A task that finds its GPUs busy is sent again with a header that counts these
waits. When the wait is over, granted or given up, the header is taken out and the number of retries
is what the task itself has used up, so lock waits never cost any of `max_retries`.

While such a task is away its turn may come, and the GPUs are then kept for it: its place is worth
that much, but a worker all of whose slots wait with `wait="block"` behind it cannot run it. Tasks
of the two kinds belong to different workers, or to one with more slots than blocking tasks.

**Signals** only make things faster. The kernel, the heartbeats and the times in the store decide.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import random
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, TypeVar

import celery
from celery import signals
from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded, WorkerLostError

from gpulock import _gpulock, _process
from gpulock.errors import DuplicateTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gpulock._gpulock import Operation
    from gpulock.errors import GpuLockTimeout

_T = TypeVar("_T")

__all__ = ["GpuTask", "attempt_for", "connect"]

logger = logging.getLogger("gpulock")

# The name under which a waiting task's message carries what gpulock must know of earlier waits.
_HEADER = "gpulock"
# Bounds of one wait by retry, in seconds. The longest of a task's first wait is short, because its
# turn may come while it is away; it doubles with each wait.
_SHORTEST_WAIT = 1.0
_LONGEST_FIRST_WAIT = 5.0
_LONGEST_WAIT = 60.0
# Seconds that a task may come later than it was sent for, because its worker is busy.
_LATENESS = 15.0
# Seconds after which an unacknowledged message is delivered again where nothing else is set.
_VISIBILITY_TIMEOUTS = {"redis": 3600.0, "rediss": 3600.0, "sentinel": 3600.0, "sqs": 1800.0}


def attempt_for(function: Callable[..., Any]) -> _TaskAttempt | None:
    """The run of a Celery task in which `function` is called now; None outside of one."""
    current: Any = celery.current_task
    if not current:
        return None
    task = current.app.current_worker_task
    if task is None or task.request.id is None:
        return None
    connect()
    return _TaskAttempt(task, function)


class _Execution:
    """One execution of one message, over all locked calls in it."""

    def __init__(self, request: Any) -> None:
        waits, since = _read_header(request)
        self.run = secrets.randbits(63)
        # How often the message was sent again because GPUs were busy.
        self.waits = waits
        # When each waiting lease was first asked for (Unix time: its places outlive processes).
        self.since = since
        self.own_retries = max(0, request.retries - waits)
        # The leases of the calls that are under way.
        self.in_use: set[str] = set()

    @classmethod
    def of(cls, request: Any) -> _Execution:
        """The execution of `request`; copies of a request share it."""
        execution = getattr(request, "gpulock_execution", None)
        if execution is None:
            execution = request.gpulock_execution = cls(request)
        return execution

    def next_header(self) -> dict[str, Any]:
        """What the message carries when it is sent again."""
        return {"waits": self.waits + 1, "since": dict(self.since)}


class _TaskAttempt:
    """Implements `gpulock._attempt.Attempt`."""

    def __init__(self, task: Any, function: Callable[..., Any]) -> None:
        self._task = task
        self._request = task.request
        self._execution = _Execution.of(self._request)
        self._comes_back = False
        derived = _derived_id(self._request, self._execution.own_retries, function)
        # Asking twice with one id and one run is taken for one request, so the second of two calls
        # at the same time (`asyncio.gather`) is on its own. So is all that runs eagerly.
        self.can_retry: bool = not self._request.is_eager and not self._is_in_use(derived)
        self.lease_id: str = derived if self.can_retry else secrets.token_hex(16)
        self.run: int = self._execution.run if self.can_retry else secrets.randbits(63)
        self._execution.in_use.add(self.lease_id)
        self._asked_at: float = self._execution.since.get(self.lease_id, time.time())

    def _is_in_use(self, lease_id: str) -> bool:
        return lease_id in self._execution.in_use

    @property
    def task(self) -> str:
        """The task's name in Celery."""
        return str(self._task.name)

    @property
    def comes_back_within(self) -> float:
        """Seconds for which its place must be kept if this attempt comes back."""
        return self._longest_countdown() + _LATENESS

    @property
    def waited(self) -> float:
        """Seconds since the task first asked for this lease, over all its attempts."""
        return max(0.0, time.time() - self._asked_at)

    def granted(self) -> None:
        """The wait is over: the task's message is again what its sender made it."""
        self._execution.since.pop(self.lease_id, None)
        self._restore_request()

    def come_back(self, busy: GpuLockTimeout, expected: float | None) -> NoReturn:
        """Sends the task again, to run after about `expected` seconds, and ends this run with
        Celery's `Retry`. If the broker cannot be reached the message is rejected, as
        `Task.retry` does."""
        self._comes_back = True
        execution, request = self._execution, self._request
        execution.since[self.lease_id] = self._asked_at
        countdown = self._countdown(expected)
        again = self._task.signature_from_request(
            request,
            countdown=countdown,
            retries=execution.own_retries + execution.waits + 1,
            headers={**(request.headers or {}), _HEADER: execution.next_header()},
        )
        try:
            again.apply_async()
        except Exception as error:
            raise Reject(error, requeue=False) from error
        raise Retry(exc=busy, when=countdown, sig=again) from busy

    def duplicate(self, error: DuplicateTask) -> DuplicateTask:
        """`error` as one that Celery ignores: the result of the first run stays untouched, and this
        message is acknowledged."""
        return IgnoredDuplicate.of(error)

    def close(self) -> None:
        """The locked call is over. A wait that was given up is over too: whatever retries the task
        then has its own count."""
        self._execution.in_use.discard(self.lease_id)
        if not self._comes_back:
            self.granted()

    def _restore_request(self) -> None:
        request = self._request
        request.retries = self._execution.own_retries
        if request.headers and _HEADER in request.headers:
            kept = {name: value for name, value in request.headers.items() if name != _HEADER}
            request.headers = kept or None

    def _countdown(self, expected: float | None) -> float:
        if expected is None:
            expected = _next_poll(self._execution.waits)
        spread = expected * random.uniform(0.9, 1.1)  # noqa: S311
        return round(min(max(spread, _SHORTEST_WAIT), self._longest_countdown()), 3)

    def _longest_countdown(self) -> float:
        longest = _LONGEST_FIRST_WAIT * 2.0 ** min(self._execution.waits, 16)
        delivered_again = _visibility_timeout(self._task.app)
        if delivered_again is not None:
            # Half of it, so that the message that waits for its time is not taken for a lost one.
            longest = min(longest, delivered_again / 2)
        return min(max(longest, _SHORTEST_WAIT), _LONGEST_WAIT)


class IgnoredDuplicate(DuplicateTask, Ignore):  # type: ignore[misc]
    """A `DuplicateTask` that Celery takes for what it is: nothing to be done."""

    @classmethod
    def of(cls, error: DuplicateTask) -> IgnoredDuplicate:
        """The same error in this form."""
        ignored = cls.__new__(cls, *error.args)
        ignored.args = error.args
        ignored.__dict__.update(error.__dict__)
        return ignored


class GpuTask(celery.Task):  # type: ignore[misc]
    """A task whose body runs under a lease: the same as `@gpu_lock(...)` below `@app.task`.

        @app.task(base=GpuTask, gpu_lock={"gpus": 1, "priority": "high"})
        def transcribe(path): ...

    `gpu_lock`: the decorator's options; without it GPU 0. A class can set it for its `run` too.
    """

    abstract = True
    gpu_lock: ClassVar[Mapping[str, Any]] = {}
    _unlocked_run: ClassVar[tuple[Any, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__dict__
        if "run" in own:
            # In a tuple, because a static method would be unwrapped on the way out.
            cls._unlocked_run = (own["run"],)
        if cls._unlocked_run and ("run" in own or "gpu_lock" in own):
            cls.run = _lock(cls._unlocked_run[0], cls.gpu_lock)


def _lock(run: Any, options: Mapping[str, Any]) -> Any:
    from gpulock.decorator import gpu_lock

    if isinstance(run, staticmethod):
        return staticmethod(gpu_lock(**options)(run.__func__))
    return gpu_lock(**options)(run)


# --- the message ------------------------------------------------------------------------------


def _read_header(request: Any) -> tuple[int, dict[str, float]]:
    header = (request.headers or {}).get(_HEADER)
    if not isinstance(header, dict):
        return 0, {}
    waits, since = header.get("waits"), header.get("since")
    if not isinstance(waits, int) or not 0 <= waits <= request.retries:
        return 0, {}
    if not isinstance(since, dict):
        return waits, {}
    return waits, {
        str(lease): float(t) for lease, t in since.items() if isinstance(t, (int, float))
    }


def _derived_id(request: Any, own_retries: int, function: Callable[..., Any]) -> str:
    nesting = request.replaced_task_nesting or 0
    name = f"{function.__module__}.{function.__qualname__}"
    facts = "\0".join(["celery", str(request.id), str(own_retries), str(nesting), name])
    return hashlib.sha256(facts.encode()).hexdigest()[:32]


def _next_poll(waits: int) -> float:
    """Seconds until the next look of a waiter of whom nothing is known, after so many looks."""
    settings = _settings()
    first: float = settings["gpu_lock.poll_interval"]
    longest: float = settings["gpu_lock.max_poll_interval"]
    return min(first * 2.0 ** min(waits, 16), longest)


def _visibility_timeout(app: Any) -> float | None:
    """Seconds after which the broker delivers an unacknowledged message again; None if it does not
    do that by time."""
    transport = str(app.connection_for_read().transport_cls).lower()
    if transport not in _VISIBILITY_TIMEOUTS:
        return None
    options = app.conf.broker_transport_options or {}
    return float(options.get("visibility_timeout") or _VISIBILITY_TIMEOUTS[transport])


# --- signals ----------------------------------------------------------------------------------

# Seconds after the news of a killed process at which to look whether it is gone. Celery tells of
# a kill before it is done.
_LOOKS = (0.3, 1.0, 3.0)
# Seconds that the end of a worker's process may take for giving back what it still holds.
_LAST_PATIENCE = 1.0


@functools.cache
def connect() -> None:
    """Listens to Celery's signals in this process; once is enough. A module that decorates a
    function while Celery is imported does this, so that a worker's main process listens too."""
    signals.task_revoked.connect(_on_revoked, weak=False)
    signals.task_failure.connect(_on_failure, weak=False)
    signals.worker_process_shutdown.connect(_on_process_end, weak=False)
    signals.worker_ready.connect(_on_worker_ready, weak=False)


def _on_revoked(
    sender: Any = None, request: Any = None, terminated: bool = False, **_: object
) -> None:
    """A task that waited by retry will not come back; one that ran is being killed."""
    places = _places(sender)
    if terminated:
        _look_soon(places)
    waiting = _read_header(request)[1]
    if waiting:
        _errands.run_soon(("give up", *waiting), lambda: _give_up_places(places, waiting))


def _on_failure(sender: Any = None, exception: object = None, **_: object) -> None:
    if isinstance(exception, (WorkerLostError, TimeLimitExceeded)):
        _look_soon(_places(sender))


def _on_process_end(**_: object) -> None:
    """A pool's process ends by `os._exit`, so nothing else gives back what it still holds."""
    _gpulock.shutdown(_LAST_PATIENCE)


def _on_worker_ready(sender: Any = None, **_: object) -> None:
    app = sender.app
    timeout = _visibility_timeout(app)
    late = sorted(name for name, task in app.tasks.items() if task.acks_late and _is_locked(task))
    if timeout is not None and late:
        _errands.run_soon(("warn", *late), lambda: _warn_of_copies(app, late, timeout))


def _warn_of_copies(app: Any, names: Iterable[str], timeout: float) -> None:
    """Says which tasks may still run when the broker takes their message for lost."""
    hard_timeout = _settings()["gpu_lock_monitor.timeout_levels.hard_timeout"]
    for name in names:
        longest = app.tasks[name].time_limit or app.conf.task_time_limit or hard_timeout
        if timeout < longest:
            logger.warning(
                "the broker delivers %s again after %gs (visibility_timeout), but it may run for "
                "%gs: the copy will not run (DuplicateTask), and if the first run then fails "
                "nobody runs it again; hint: set "
                "broker_transport_options = {'visibility_timeout': %d} or more, or a time_limit "
                "below %gs for the task",
                name, timeout, longest, int(longest) + 60, timeout,
            )  # fmt: skip


def _look_soon(places: set[_Place]) -> None:
    _errands.run_soon(("look", *places), lambda: _look_for_the_dead(places))


def _look_for_the_dead(places: Iterable[_Place]) -> None:
    """Tells the stores of processes of this host that are gone, as the kernel says."""
    for pause in _LOOKS:
        time.sleep(pause)
        if sum([_outcome(_client(place).sweep()) for place in places]):
            return


def _give_up_places(places: Iterable[_Place], leases: Iterable[str]) -> None:
    for place in places:
        client = _client(place)
        for lease_id in leases:
            _outcome(client.cancel_named(lease_id))


class _Errands:
    """Does one thing after the other on a thread that lives as long as there is something to do: a
    worker's main process runs an event loop that must not wait for a store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[tuple[object, ...], Callable[[], None]] = {}
        self._is_running = False

    def forget(self) -> None:
        """Starts anew in a forked process, which has no such thread."""
        self._lock, self._waiting, self._is_running = threading.Lock(), {}, False

    def run_soon(self, what: tuple[object, ...], errand: Callable[[], None]) -> None:
        """Once, however often it is asked for before it begins."""
        with self._lock:
            self._waiting[what] = errand
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="gpulock-errands", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_running = False
                    return
                errand = self._waiting.pop(next(iter(self._waiting)))
            try:
                errand()
            except Exception as error:  # noqa: BLE001
                logger.info("a Celery signal could not be passed on to the store: %s", error)


_errands = _Errands()
os.register_at_fork(after_in_child=_errands.forget)


# --- stores -----------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Where a locked function's leases are, as its options say; None: as configured."""

    store: str | None = None
    config: str | None = None
    pool: str | None = None


def _places(task: Any) -> set[_Place]:
    """Where leases of `task` may be: where the body of the task asks for them, and the default for
    those of locked functions that it calls."""
    body = getattr(task, "run", None)
    options: Mapping[str, Any] | None = getattr(body, "__gpulock__", None)
    if options is None:
        return {_Place()}
    return {_Place(), _Place(*(options.get(name) for name in _Place._fields))}


def _is_locked(task: Any) -> bool:
    return hasattr(task.run, "__gpulock__")


def _client(place: _Place) -> _gpulock.Client:
    return _process.opened(place).client


def _outcome(operation: Operation[_T]) -> _T:
    while not operation.wait():
        pass
    return operation.result()


def _settings() -> dict[str, Any]:
    return _process.opened(_Place()).settings
