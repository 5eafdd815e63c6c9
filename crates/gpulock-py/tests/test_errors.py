"""Errors: what they carry, and that they survive a result backend."""

from __future__ import annotations

import json
import pickle

import gpulock
import pytest
from gpulock import errors
from gpulock._gpulock import Failure

HOLDER = {"task": "asr", "host": "gpu1", "pid": 7, "gpus": [0], "held_for": 3.5, "draining": False}
TREE = [
    gpulock.GpuLockTimeout,
    gpulock.LeaseLost,
    gpulock.StopRequested,
    gpulock.StoreUnavailable,
    gpulock.NotOwner,
    gpulock.DuplicateTask,
    gpulock.ConfigError,
]


def failure(kind: str, message: str = "it failed", hint: str | None = None, **details: object):
    one = Failure(kind, message, hint, 75, details)
    one.kind, one.message, one.hint, one.code, one.details = kind, message, hint, 75, details
    return one


@pytest.mark.parametrize("error", TREE)
def test_every_error_is_a_gpu_lock_error(error: type[gpulock.GpuLockError]) -> None:
    assert issubclass(error, gpulock.GpuLockError)
    assert isinstance(error("x"), error)


@pytest.mark.parametrize("error", [gpulock.GpuLockError, *TREE])
def test_pickling_keeps_everything(error: type[gpulock.GpuLockError]) -> None:
    details = {"hint": "wait", "waited": 2.5, "position": 3, "holders": [HOLDER], "retry_after": 9}
    one = error("busy", details)
    two = pickle.loads(pickle.dumps(one))
    assert type(two) is error
    assert str(two) == str(one)
    assert two.__dict__ == one.__dict__
    assert two.holder == HOLDER


@pytest.mark.parametrize("error", [gpulock.GpuLockError, *TREE])
def test_rebuilding_from_the_args_keeps_everything(error: type[gpulock.GpuLockError]) -> None:
    one = error("busy", {"hint": "wait", "waited": 2.5, "position": 3, "holders": [HOLDER]})
    two = error(*json.loads(json.dumps(one.args)))
    assert (str(two), two.__dict__) == (str(one), one.__dict__)


def test_the_text_is_the_message_and_the_hint() -> None:
    assert str(gpulock.LeaseLost("gone", {"hint": "stop"})) == "gone\nhint: stop"
    assert str(gpulock.LeaseLost("gone")) == "gone"
    assert gpulock.LeaseLost("gone").args == ("gone",)


def test_a_timeout_has_the_older_word_once() -> None:
    one = gpulock.GpuLockTimeout("GPU 0 is not free")
    assert str(one) == "GPU_LOCK_TIMEOUT: GPU 0 is not free"
    assert str(gpulock.GpuLockTimeout(*one.args)) == str(one)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("timeout", gpulock.GpuLockTimeout),
        ("lost", gpulock.LeaseLost),
        ("store", gpulock.StoreUnavailable),
        ("duplicate", gpulock.DuplicateTask),
        ("config", gpulock.ConfigError),
        ("not_owner", gpulock.NotOwner),
        ("refused", gpulock.GpuLockError),
        ("driver", gpulock.GpuLockError),
        ("start", gpulock.GpuLockError),
        ("called_off", gpulock.GpuLockError),
    ],
)
def test_each_failure_has_its_error(kind: str, error: type[gpulock.GpuLockError]) -> None:
    one = errors.error_for(failure(kind))
    assert type(one) is error
    assert one.kind == kind


def test_a_timeout_says_who_holds_and_for_how_long_it_waited() -> None:
    native = failure("timeout", "GPU 0 is not free", waited=5.0, position=2, holder=[HOLDER])
    one = errors.error_for(native, expected=12.0)
    assert (one.waited, one.position, one.holder) == (5.0, 2, HOLDER)
    assert one.holders == [HOLDER]
    assert one.retry_after == 12.0
    assert "max_wait_time" in (one.hint or "")


def test_a_closed_store_says_when_to_come_back() -> None:
    assert errors.error_for(failure("timeout", closed_for=20.0), 3.0).retry_after == 20.0
