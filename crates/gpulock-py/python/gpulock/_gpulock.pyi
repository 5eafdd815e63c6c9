"""The native half of gpulock: a client on a thread of its own.

Private: the public face is the package `gpulock`. No call here holds the interpreter lock while it
waits, and the native thread never takes it, so heartbeats go on whatever Python does. No signal is
delivered to the native thread: one that arrives ends a wait of the main thread early.

Everything that takes time is an `Operation`. Objects that were made before a fork belong to the
parent: in the child every call on them fails with a `Failure` of kind "not_owner", and dropping
them does nothing.
"""

from typing import Any, Final, Generic, TypeVar, final

__all__ = [
    "Client",
    "Failure",
    "Heartbeat",
    "Lease",
    "LeaseState",
    "Operation",
    "Progress",
    "Watch",
    "__version__",
    "after_fork_in_child",
    "after_fork_in_parent",
    "before_fork",
    "shutdown",
]

_T_co = TypeVar("_T_co", covariant=True)

__version__: Final[str]

class Failure(Exception):
    """What the native half could not do. Its `args` are the five attributes.

    `kind` is one of: "timeout" (not acquired), "lost", "store" (cannot be used), "refused" (can
    never be met), "duplicate" (the same task runs or waits already), "config", "driver",
    "called_off", "not_owner" (made before a fork), "start" (no thread, no randomness).
    """

    kind: str
    message: str
    hint: str | None
    code: int
    """Exit code that `gpulock` ends with for the same error."""
    details: dict[str, Any]
    """With "timeout" `waited` (seconds or None), `position`, `closed_for` and `holder`, a list of
    those who hold; with "duplicate" `holder` and `waits`; with "store" whether it `answered`."""

@final
class Operation(Generic[_T_co]):
    """Something under way on the native thread."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when it is done, and stays so: for `select` and
        asyncio."""
    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is done, for at most `timeout` seconds or until a signal arrives; says
        whether it is done."""
    def result(self) -> _T_co:
        """What came of it, once. Raises `Failure`; fails with RuntimeError before it is done or
        when it was taken already."""
    def cancel(self) -> None:
        """Calls it off: a request leaves the queue, and what it was granted meanwhile is given
        back. Does not wait. Nothing happens if it is done and taken."""
    def progress(self) -> Progress | None:
        """How a request is waiting; None for other operations."""

@final
class Progress:
    """How a request is waiting."""

    @property
    def ahead(self) -> int | None:
        """How many are before it; None until it is in the queue."""
    @property
    def holders(self) -> str:
        """Who holds the GPUs, for people: "asr (pid 12 on gpu1) for 3.2s"; empty if nobody does."""
    @property
    def expected(self) -> float | None:
        """Seconds until it is probably its turn, from the mean of what the pool has seen; None if
        nothing is known."""
    @property
    def closed_for(self) -> float | None:
        """Seconds during which nothing is lent because the store came back."""
    @property
    def store_trouble(self) -> str | None:
        """Why the store does not answer, while it does not."""

@final
class Client:
    """A client of one pool of one store."""

    def __new__(
        cls,
        store: str | None = None,
        config: str | None = None,
        pool: str | None = None,
        client_name: str | None = None,
    ) -> Client:
        """Reads the configuration as the command line does (`store`, `pool` count as flags,
        `config` as --config) and opens the store. Fails with kinds "config" and "store"."""
    @property
    def pool(self) -> str: ...
    @property
    def store(self) -> str:
        """Where the store is, with masked password."""
    @property
    def config_file(self) -> str | None:
        """The file that was read."""
    @property
    def warnings(self) -> list[str]:
        """What looks like a mistake in the configuration, and what the user should know about the
        store's place."""
    def settings(self) -> dict[str, Any]:
        """Effective values by key ("gpu_lock.poll_interval"): spans in seconds as float, switches
        as bool, counts as int, everything else as str or None; secrets masked."""
    def request(
        self,
        task: str,
        gpus: int | list[str],
        *,
        priority: str = "normal",
        max_wait: float | None = None,
        forever: bool = False,
        poll_interval: float | None = None,
        heartbeat_interval: float | None = None,
        heartbeat_timeout: float | None = None,
        fixed_term: float | None = None,
        store_patience: float | None = None,
        inside: list[str] | None = None,
        lease_id: str | None = None,
        run: int | None = None,
        comes_back_within: float | None = None,
        lazily: bool = False,
    ) -> Operation[Lease]:
        """Asks for GPUs: any so many, or exactly those of the list (indices or UUIDs).

        `max_wait`: seconds; 0 does not queue; None: as configured, or for ever with `forever`.
        `fixed_term`: a lease without heartbeats that ends after so many seconds.
        `inside`: leases in which this request is made and for which it must never wait.
        `lease_id`: the id of the lease, for a request that others may make again (a task that is
        delivered twice); `run` tells such attempts apart and goes with it. `comes_back_within`:
        asks once, and if the GPUs are not free fails with kind "timeout" but keeps the place in the
        queue so long for whoever asks again with the same `lease_id`. `lazily`: begins with the
        first wait; one that may block asks the store on the caller's own thread first, which saves
        the way to the native thread and back.
        Wrong arguments fail with ValueError.
        """
    def release_named(self, lease_id: str, token: int, task: str) -> Operation[bool]:
        """Gives back a lease by its name; False if it had ended otherwise before."""
    def cancel_named(self, lease_id: str) -> Operation[None]:
        """Takes a request that waits, or a grant that nobody picked up, out of the queue."""
    def report(self, lease_id: str, task: str, kind: str, error: str) -> Operation[None]:
        """Writes down what went wrong around a lease, and counts it: "normal_release_failure",
        "emergency_release", "release_script_error", "critical_failure". Goes on trying in the
        background until the store has heard it."""
    def raise_alert(
        self,
        kind: tuple[str, str],
        message: str,
        facts: dict[str, str],
        lease: tuple[str, str] | None,
    ) -> Operation[None]:
        """Raises an alert of some kind (its name, and P0, P1, P2, warning or info) under a lease
        (its id and its task) or none. Goes on trying until the store has heard it."""
    def seize(self, lease_id: str, token: int, reason: str) -> Operation[bool]:
        """Takes a lease away from its holder; False if it is not the current one."""
    def sweep(self) -> Operation[int]:
        """Looks at the processes of this host that hold or wait, tells the store of those that are
        gone, and says how many those were."""
    def status(self) -> Operation[str]:
        """The pool as JSON: one element of `pools` of `gpulock status --json`."""
    def counters(self) -> Operation[str]:
        """The running sums of the pool as a JSON object."""
    def history(self, limit: int = 100, task: str | None = None) -> Operation[str]:
        """The latest events as a JSON array, the latest first."""
    def beat(
        self,
        task_id: str,
        status: str,
        *,
        progress: float | None = None,
        message: str | None = None,
        lease_id: str | None = None,
        begins: bool = False,
    ) -> Operation[None]:
        """Writes a sign of life of a task of this process: "running", "completed" or "failed".
        `begins`: a new run, which starts now. Wrong arguments fail with ValueError."""
    def keep_task(
        self,
        task_id: str,
        *,
        progress: float | None = None,
        message: str | None = None,
        lease_id: str | None = None,
        begins: bool = False,
    ) -> Heartbeat:
        """Goes on writing that a task runs, every `heartbeat.interval`; at once with `begins`."""
    def task_heartbeats(self) -> Operation[str]:
        """What is remembered of tasks as a JSON array, the latest sign of life first."""
    def forget_task(self, task_id: str) -> Operation[bool]:
        """Forgets a task; False if nothing was remembered of it."""
    def settle(self, patience: float) -> Operation[bool]:
        """Waits until nothing is left to be said to the store."""
    def again(self) -> Client:
        """A new client with the same values on a new connection."""
    def renewed(self) -> tuple[Client, list[str]]:
        """A client with the present values of the configuration file on the same connections.
        Store and pool stay; says which of "store" and "pool" the file names otherwise now."""
    def inherited(self, as_it_was: bool = False) -> tuple[Client, list[str]]:
        """The same on a new connection, in a child after a fork. Store and pool stay unless a
        variable of the environment names others. `as_it_was`: with the parent's values."""

@final
class Heartbeat:
    """A task whose signs of life go on, on the native thread. Dropping it ends them."""

    def tell(self, progress: float | None = None, message: str | None = None) -> None:
        """Tells how far the task is, now. Does not wait."""
    def trouble(self) -> str | None:
        """Why the last sign of life was not written; None if it was."""
    def end(
        self,
        status: str | None = None,
        progress: float | None = None,
        message: str | None = None,
    ) -> Operation[bool]:
        """Ends it, once: with a last sign of life, or without a status by forgetting the task. What
        was told before does not reach the store after that. False if there was nothing to
        forget."""

@final
class Lease:
    """A lease in the hands of its holder. Dropping it gives it back in the background."""

    @property
    def lease_id(self) -> str: ...
    @property
    def token(self) -> int: ...
    @property
    def task(self) -> str: ...
    @property
    def gpus(self) -> list[int]: ...
    @property
    def visible_devices(self) -> str:
        """For CUDA_VISIBLE_DEVICES: UUIDs where they are known, else indices."""
    @property
    def waited(self) -> float:
        """Seconds from asking to the grant."""
    @property
    def pool(self) -> str: ...
    @property
    def client(self) -> Client: ...
    def state(self) -> LeaseState: ...
    def watch(self) -> Watch: ...
    def progress(self, percent: float, message: str) -> None:
        """Goes out with a heartbeat, now. Does not wait."""
    def release(self, lazily: bool = False) -> Operation[None]:
        """Gives it back; `lazily` as in `Client.request`. Fails with kind "lost" if it had ended
        before, "store" if the store did not confirm within `store_patience`; the native thread then
        goes on trying."""
    def retire(self) -> Operation[None]:
        """Ends it because this process is about to end: the GPUs go on when the process is gone, or
        when it still lives after `stop_grace`."""
    def abandon(self) -> None:
        """Ends the heartbeats without giving it back. Does not wait."""

@final
class LeaseState:
    """How a lease is doing."""

    @property
    def health(self) -> str:
        """ "held", "danger" (a renewal is overdue) or "lost"."""
    @property
    def lost_because(self) -> str | None: ...
    @property
    def stop_reason(self) -> str | None:
        """Why the holder was asked to stop; None if it was not."""
    @property
    def deadline_in(self) -> float:
        """Seconds until the holder must have stopped unless a heartbeat gets through."""

@final
class Watch:
    """Tells changes of a lease's state."""

    def fileno(self) -> int:
        """A descriptor that becomes readable at a change (for `select`, asyncio)."""
    def wait(self, timeout: float | None = None) -> bool:
        """Waits for a change since the last `state()`; as `Operation.wait`."""
    def state(self) -> LeaseState:
        """The present state; the descriptor is quiet until the next change."""
    def close(self) -> None:
        """Ends it; a `wait` in another thread returns."""

def before_fork() -> None:
    """Holds the native thread still and lets go of what must not be carried over a fork."""

def after_fork_in_parent() -> None:
    """Lets the native thread go on."""

def after_fork_in_child() -> None:
    """Forgets everything that belongs to the parent."""

def shutdown(patience: float) -> None:
    """At the end of the interpreter: calls every request off, gives back every lease of this
    process, waits at most `patience` seconds for the store, and ends the native thread. After it
    nothing can be begun: that fails with kind "start"."""
