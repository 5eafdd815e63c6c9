"""Drives native operations, for callers that block and for asyncio.

What the package does is written once, as a flow: a generator that yields what it waits for.
`block` runs a flow in a thread, `finish` in a coroutine. An exception that arrives in a wait (of a
signal handler, or a cancellation) is thrown into the flow, which calls off what is under way.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from gpulock._gpulock import Failure
from gpulock.errors import error_for

if TYPE_CHECKING:
    from asyncio import Future

    from gpulock._gpulock import Operation, Progress

_T = TypeVar("_T")

Wait = tuple["Operation[Any] | None", "float | None"]
"""What a flow waits for, and for how many seconds at most. Without an operation it is a pause."""

Flow = Generator[Wait, bool, _T]
"""Something that is done in steps. It is told after each wait whether the operation is done."""

logger = logging.getLogger("gpulock")


def block(flow: Flow[_T]) -> _T:
    """Runs a flow to its end in this thread."""
    done: bool | None = None
    arrived: BaseException | None = None
    while True:
        try:
            if arrived is not None:
                error, arrived = arrived, None
                operation, span = flow.throw(error)
            else:
                operation, span = next(flow) if done is None else flow.send(done)
            if operation is not None:
                done = operation.wait(span)
            else:
                time.sleep(span or 0.0)
                done = True
        except StopIteration as end:
            result: _T = end.value
            return result
        except BaseException as error:
            if getattr(flow, "gi_frame", None) is None:
                raise
            arrived = error


async def finish(flow: Flow[_T]) -> _T:
    """Runs a flow to its end in this coroutine; no thread is used while it waits."""
    import asyncio

    done: bool | None = None
    arrived: BaseException | None = None
    while True:
        try:
            if arrived is not None:
                error, arrived = arrived, None
                operation, span = flow.throw(error)
            else:
                operation, span = next(flow) if done is None else flow.send(done)
            if operation is None:
                await asyncio.sleep(span or 0.0)
                done = True
            else:
                done = operation.wait(0) or await _readable(operation, span)
        except StopIteration as end:
            result: _T = end.value
            return result
        except BaseException as error:
            if getattr(flow, "gi_frame", None) is None:
                raise
            arrived = error


async def readable(descriptor: int, span: float | None) -> bool:
    """Waits until a descriptor is readable, for at most `span` seconds; says whether it is."""
    from asyncio import get_running_loop

    loop = get_running_loop()
    answer: Future[bool] = loop.create_future()

    def answered(is_readable: bool) -> None:
        if not answer.done():
            answer.set_result(is_readable)

    timer = None if span is None else loop.call_later(span, answered, False)
    loop.add_reader(descriptor, answered, True)
    try:
        return await answer
    finally:
        loop.remove_reader(descriptor)
        if timer is not None:
            timer.cancel()


def completed(operation: Operation[_T], told: Waiting | None = None) -> Flow[_T]:
    """Waits for an operation; its failure is raised as one of the package's errors. Any other
    exception calls it off."""
    try:
        while not (yield operation, told.pause if told else None):
            if told:
                told.tell(operation.progress())
        return operation.result()
    except Failure as failure:
        progress = operation.progress()
        raise error_for(failure, progress.expected if progress else None) from None
    except BaseException:
        operation.cancel()
        raise


class Waiting:
    """Tells the log how a request waits: after ten seconds, at a change (at most every ten
    seconds), and once a minute; and at once that the store does not answer."""

    FIRST = 10.0
    AGAIN = 60.0

    pause = 2.0
    """Seconds between two looks."""

    def __init__(self, wanted: str, task: str) -> None:
        self._wanted = wanted
        self._task = task
        self._began = self._told_at = time.monotonic()
        self._told: object = None
        self._trouble: str | None = None

    def tell(self, progress: Progress | None) -> None:
        """Writes a line if it is time for one."""
        if progress is None:
            return
        self._tell_trouble(progress.store_trouble)
        now = time.monotonic()
        # The holders' times grow; that is no change.
        state = (progress.ahead, re.sub(r" for [0-9][0-9a-z. ]*", "", progress.holders))
        since = now - self._told_at
        if since >= self.AGAIN or (since >= self.FIRST and state != self._told):
            self._told_at, self._told = now, state
            self._log(logging.INFO, "still waiting for %s%s", self._wanted, _how(progress))

    def _tell_trouble(self, trouble: str | None) -> None:
        if trouble is not None and self._trouble is None:
            self._log(logging.WARNING, "waiting for %s, but the store: %s", self._wanted, trouble)
        self._trouble = trouble

    def _log(self, level: int, text: str, *values: object) -> None:
        logger.log(level, text, *values, extra={"lease_id": None, "gpus": None, "task": self._task})


def _how(progress: Progress) -> str:
    parts: list[str] = []
    if progress.ahead is not None:
        parts.append(f"place {progress.ahead + 1} in the queue")
    if progress.holders:
        parts.append(f"held by {progress.holders}")
    if progress.expected is not None:
        parts.append(f"probably {progress.expected:.0f}s to go")
    if progress.closed_for is not None:
        parts.append(f"nothing is lent for another {progress.closed_for:.0f}s: the store came back")
    return ": " + "; ".join(parts) if parts else ""


async def _readable(operation: Operation[Any], span: float | None) -> bool:
    return await readable(operation.fileno(), span) and operation.wait(0)
