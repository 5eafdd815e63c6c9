"""Options: the same names everywhere, checked before anything is asked."""

from __future__ import annotations

import math
from typing import Any

import gpulock
import pytest
from gpulock._options import Request


def parse(**options: Any) -> Request:
    return Request.parse("lease", options)


def test_a_lease_takes_any_gpu_and_the_decorator_gpu_0() -> None:
    assert parse().gpus == 1
    assert Request.parse("gpu_lock", {}, default=["0"]).gpus == ["0"]


@pytest.mark.parametrize(
    ("options", "gpus", "pool"),
    [
        ({"gpus": 2}, 2, None),
        ({"gpus": [0, 1]}, ["0", "1"], None),
        ({"gpus": ("GPU-1", 3)}, ["GPU-1", "3"], None),
        ({"lock_key": "gpu_lock:1"}, ["1"], "default"),
        ({"lock_key": "gpu_lock:lab/1"}, ["1"], "lab"),
        ({"lock_key": "gpu_lock:1", "pool": "lab"}, ["1"], "lab"),
        ({"lock_key": "gpu_lock:GPU-5"}, ["GPU-5"], "default"),
    ],
)
def test_wishes(options: dict[str, Any], gpus: Any, pool: str | None) -> None:
    request = parse(**options)
    assert (request.gpus, request.key[2]) == (gpus, pool)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"gpu": 1}, TypeError, "did you mean 'gpus'"),
        ({"wait": "retry"}, TypeError, "no option 'wait'"),
        ({"gpus": 0}, ValueError, "at least one"),
        ({"gpus": []}, ValueError, "at least one"),
        ({"gpus": True}, TypeError, "a number of GPUs"),
        ({"gpus": "0"}, TypeError, "a list of indices"),
        ({"gpus": 1.5}, TypeError, "a number of GPUs"),
        ({"gpus": [None]}, TypeError, "an index or a UUID"),
        ({"gpus": 1, "lock_key": "gpu_lock:0"}, ValueError, "both"),
        ({"lock_key": "lock:0"}, ValueError, "gpu_lock:POOL/0"),
        ({"lock_key": "gpu_lock:"}, ValueError, "gpu_lock:POOL/0"),
        ({"lock_key": "gpu_lock:a/0", "pool": "b"}, ValueError, "another pool"),
        ({"priority": "first"}, ValueError, "low, normal, high, urgent"),
        ({"on_store_error": "ignore"}, ValueError, "run_unlocked"),
        ({"max_wait_time": -1}, ValueError, "max_wait_time"),
        ({"max_wait_time": "5"}, TypeError, "number of seconds"),
        ({"max_wait_time": math.nan}, ValueError, "max_wait_time"),
        ({"poll_interval": 0}, ValueError, "poll_interval"),
        ({"heartbeat_timeout": math.inf}, ValueError, "finite"),
        ({"on_lost": 3}, TypeError, "takes the lease"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        gpulock.lease(**options)


def test_the_decorator_refuses_nonsense_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="block, retry"):
        gpulock.gpu_lock(wait="sometimes")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a function of the call"):
        gpulock.gpu_lock(when=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="by name"):
        gpulock.gpu_lock("gpu_lock:1")  # type: ignore[call-overload]


def test_requests_in_words() -> None:
    assert parse().wanted == "any GPU"
    assert parse(gpus=3).wanted == "any 3 GPUs"
    assert parse(gpus=[1]).wanted == "GPU 1"
    assert parse(gpus=[0, 1, 2]).wanted == "GPUs 0, 1 and 2"


def test_infinity_waits_for_ever() -> None:
    assert parse(max_wait_time=math.inf).waits_forever
    assert not parse(max_wait_time=5).waits_forever
