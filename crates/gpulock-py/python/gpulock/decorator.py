"""`@gpu_lock()`: a function that runs under a lease.

Works on functions, methods, `async def`, generators and asynchronous generators (the lease is held
until they are exhausted or closed), on static and class methods, and below a task queue's
decorator.
"""

from __future__ import annotations

import functools
import logging
import sys
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from gpulock import _attempt, _context, _process
from gpulock._acquire import Delivery, acquiring, longest_wait
from gpulock._operation import completed
from gpulock._options import Request
from gpulock.errors import DuplicateTask, GpuLockError, GpuLockTimeout
from gpulock.lease import Lease, LeaseScope

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from inspect import Signature

    from typing_extensions import Unpack

    from gpulock._operation import Flow
    from gpulock._options import GpuLockOptions

_F = TypeVar("_F", bound="Callable[..., Any] | staticmethod[..., Any] | classmethod[Any, ..., Any]")

logger = logging.getLogger("gpulock")


@overload
def gpu_lock(function: _F, /) -> _F: ...


@overload
def gpu_lock(**options: Unpack[GpuLockOptions]) -> Callable[[_F], _F]: ...


def gpu_lock(function: Any = None, /, **options: Any) -> Any:
    """Makes a function run under a lease: of GPU 0 where nothing is said.

        @gpu_lock()                                       # or @gpu_lock
        def detect(self, video): ...

        @gpu_lock(gpus=1, priority="high", when=uses_cuda)
        async def transcribe(self, path, device): ...

    The options are those of `gpulock.GpuLockOptions`; the function keeps its signature. `when` (a
    bool, or a function that takes the call's arguments or those of them that it names) says whether
    a call needs the lock at all. In the function `gpulock.current()` is the lease.

    A call raises what `lease()` raises, and `DuplicateTask` in a task that a queue has delivered
    twice. It stands below a task queue's decorator: `@app.task` above `@gpu_lock()`.
    """
    if function is not None and not callable(function) and not _is_method_object(function):
        raise TypeError(
            f"gpu_lock() takes its options by name, not {function!r}; "
            'for a lock key write @gpu_lock(lock_key="gpu_lock:1")'
        )

    def decorate(function: Any) -> Any:
        return _decorate(function, options)

    Request.parse("gpu_lock", options)
    return decorate if function is None else decorate(function)


def _decorate(function: Any, options: dict[str, Any]) -> Any:
    if isinstance(function, staticmethod):
        return staticmethod(_decorate(function.__func__, options))
    if isinstance(function, classmethod):
        return classmethod(_decorate(cast("Any", function).__func__, options))
    if _is_queue_task(function):
        raise TypeError(
            "@gpu_lock() stands above @app.task here and would not be seen by the worker; "
            "put @app.task above @gpu_lock()"
        )
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"gpu_lock() decorates functions and methods, not {function!r}")
    _attempt.prepare()
    request = Request.parse("gpu_lock", options, default=["0"])
    request.label = _label(function)
    locked = _Locked(function, request)
    wrapper = _wrapper(locked)
    functools.update_wrapper(wrapper, function)
    if locked.signature is not None:
        # Some look at it without following `__wrapped__`, Celery among them.
        wrapper.__signature__ = locked.signature
    store, config, pool = request.key
    # For `gpulock.celery`: that it is locked, and where.
    wrapper.__gpulock__ = {"store": store, "config": config, "pool": pool}
    return wrapper


def _is_method_object(function: object) -> bool:
    return isinstance(function, (staticmethod, classmethod))


def _is_queue_task(function: object) -> bool:
    """Whether it is a task of Celery already, or a stand-in for one that is made later."""
    if type(function).__module__.startswith("celery.local"):
        return True
    task = sys.modules.get("celery.app.task")
    return task is not None and isinstance(function, task.Task)


class _Locked:
    """A decorated function: what its calls have in common."""

    def __init__(self, function: Callable[..., Any], request: Request) -> None:
        self.function = function
        self.request = request
        self.signature = _signature(function)
        self._when = request.when
        if callable(self._when):
            self._when = _by_arguments(self._when, self.signature)

    def needs_lock(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether this call takes the lock."""
        return self._when if isinstance(self._when, bool) else bool(self._when(args, kwargs))


def _wrapper(locked: _Locked) -> Any:
    """The function that stands for the decorated one, of the same kind."""
    import inspect

    kinds: list[tuple[Callable[[Any], bool], Callable[[_Locked], Any]]] = [
        (inspect.isasyncgenfunction, _asynchronous_generator),
        (inspect.iscoroutinefunction, _coroutine),
        (inspect.isgeneratorfunction, _generator),
    ]
    function = locked.function
    # Of an object that is called, its method tells the kind.
    called = type(function).__dict__.get("__call__")
    for is_of, make in kinds:
        if is_of(function) or is_of(called):
            return make(locked)
    return _plain(locked)


def _plain(locked: _Locked) -> Callable[..., Any]:
    function = locked.function

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not locked.needs_lock(args, kwargs):
            return function(*args, **kwargs)
        with _Call(locked, wrapper):
            return function(*args, **kwargs)

    return wrapper


def _coroutine(locked: _Locked) -> Callable[..., Any]:
    function = locked.function

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not locked.needs_lock(args, kwargs):
            return await function(*args, **kwargs)
        async with _Call(locked, wrapper):
            return await function(*args, **kwargs)

    return wrapper


def _generator(locked: _Locked) -> Callable[..., Any]:
    function = locked.function

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        if not locked.needs_lock(args, kwargs):
            body: Generator[Any, Any, Any] = function(*args, **kwargs)
            return (yield from body)
        call = _Call(locked, wrapper)
        with call:
            return (yield from _in_steps(function(*args, **kwargs), call))

    return wrapper


def _in_steps(body: Generator[Any, Any, Any], call: _Call) -> Generator[Any, Any, Any]:
    """As `yield from body`, but the caller of the generator is outside the lease."""
    step: Callable[[], Any] = body.__next__
    while True:
        call.step_in()
        try:
            value = step()
        except StopIteration as end:
            return end.value
        finally:
            call.step_out()
        try:
            sent = yield value
        except GeneratorExit:
            call.step_in()
            body.close()
            raise
        except BaseException as thrown:  # noqa: BLE001
            step = functools.partial(body.throw, thrown)
        else:
            step = functools.partial(body.send, sent)


def _asynchronous_generator(locked: _Locked) -> Callable[..., Any]:
    function = locked.function

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        body: AsyncGenerator[Any, Any] = function(*args, **kwargs)
        step: Callable[[], Awaitable[Any]] = body.__anext__
        call = _Call(locked, wrapper) if locked.needs_lock(args, kwargs) else _FreeCall()
        async with call:
            while True:
                call.step_in()
                try:
                    value = await step()
                except StopAsyncIteration:
                    return
                finally:
                    call.step_out()
                try:
                    sent = yield value
                except GeneratorExit:
                    call.step_in()
                    await body.aclose()
                    raise
                except BaseException as thrown:  # noqa: BLE001
                    step = functools.partial(body.athrow, thrown)
                else:
                    step = functools.partial(body.asend, sent)

    return wrapper


class _Call(LeaseScope):
    """One call of a decorated function."""

    def __init__(self, locked: _Locked, function: Callable[..., Any]) -> None:
        super().__init__(locked.request)
        self._function = function
        self._attempt: _attempt.Attempt | None = None

    def step_in(self) -> None:
        """What runs now is inside the lease."""
        for _, entry in self._held:
            _context.enter(entry)

    def step_out(self) -> None:
        """What runs now is outside the lease, which stays held."""
        for _, entry in self._held:
            _context.leave(entry)

    def _obtain(self) -> Flow[Lease]:
        attempt = _attempt.current(self._function)
        if attempt is None:
            return (yield from acquiring(self._request))
        try:
            lease = yield from _for_attempt(self._request, attempt)
        except BaseException:
            attempt.close()
            raise
        self._attempt = attempt
        return lease

    def _exit(self, error: BaseException | None) -> Flow[None]:
        try:
            yield from super()._exit(error)
        finally:
            if self._attempt is not None:
                self._attempt.close()


class _FreeCall:
    """A call that needs no lease."""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_error: object) -> None:
        pass

    def step_in(self) -> None:
        pass

    def step_out(self) -> None:
        pass


def _for_attempt(request: Request, attempt: _attempt.Attempt) -> Flow[Lease]:
    """The lease for a task of a task queue, or the queue's own exception that runs it again."""
    returns = request.wait == "retry" and attempt.can_retry
    comes_back_within = attempt.comes_back_within if returns else None
    delivery = Delivery(attempt.task, attempt.lease_id, attempt.run, comes_back_within)
    try:
        lease = yield from acquiring(request, delivery)
    except DuplicateTask as error:
        raise attempt.duplicate(error) from None
    except GpuLockTimeout as busy:
        if not returns:
            raise
        if attempt.waited < longest_wait(request):
            attempt.come_back(busy, busy.retry_after)
        yield from _give_up(request, attempt.lease_id)
        raise _too_late(busy, request.wanted, attempt.waited) from None
    attempt.granted()
    return lease


def _give_up(request: Request, lease_id: str) -> Flow[None]:
    """Leaves the queue, so that nothing is granted to a task that does not come back."""
    try:
        yield from completed(_process.opened(request.key).client.cancel_named(lease_id))
    except GpuLockError as error:
        logger.warning("a place in the queue could not be given up: %s", error.message)


def _too_late(busy: GpuLockTimeout, wanted: str, waited: float) -> GpuLockTimeout:
    message = f"{wanted} did not become free within {waited:.0f}s: {busy.message}"
    details = {"waited": waited, "position": busy.position, "holders": busy.holders or None}
    return GpuLockTimeout(message, {**details, "hint": busy.hint, "retry_after": busy.retry_after})


# --- what is known of a function --------------------------------------------------------------


def _signature(function: Callable[..., Any]) -> Signature | None:
    import inspect

    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _label(function: Callable[..., Any]) -> str:
    """What the work of a function is called if nobody says."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None)
    return name if module in (None, "__main__") else f"{module}.{name}"


def _by_arguments(
    when: Callable[..., object], signature: Signature | None
) -> Callable[[tuple[Any, ...], dict[str, Any]], object]:
    """Asks `when` about a call: with those arguments of the call that it names, defaults included,
    if the function has all of them; else with as many of the call's arguments as it takes."""
    own = _signature(when)
    if own is None:
        return lambda args, kwargs: when(*args, **kwargs)
    parameters = own.parameters
    kinds = [parameter.kind for parameter in parameters.values()]
    # Their values: 0 and 1 are given by position, 2 is *args, 4 is **kwargs.
    takes_all = any(kind in (2, 4) for kind in kinds)
    if signature is not None and not takes_all and parameters.keys() <= signature.parameters.keys():
        return _by_name(when, list(parameters), signature)
    if takes_all:
        return lambda args, kwargs: when(*args, **kwargs)
    places = sum(kind in (0, 1) for kind in kinds)
    return lambda args, kwargs: when(
        *args[:places], **{name: value for name, value in kwargs.items() if name in parameters}
    )


def _by_name(
    when: Callable[..., object], names: list[str], signature: Signature
) -> Callable[[tuple[Any, ...], dict[str, Any]], object]:
    def ask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        try:
            call = signature.bind(*args, **kwargs)
        except TypeError:
            # The function itself says what is wrong with the call, and needs no GPU for that.
            return False
        call.apply_defaults()
        return when(*(call.arguments[name] for name in names))

    return ask
