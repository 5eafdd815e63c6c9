"""What goes wrong at a release is counted in the store."""

from __future__ import annotations

import threading

import gpulock
from conftest import PrivateRedis, until
from redis import Redis


def test_a_store_that_answers_a_release_with_an_error(redis: PrivateRedis) -> None:
    server = Redis(port=redis.port)
    client = gpulock.Client()
    with gpulock.lease(gpus=[0]):
        server.execute_command("ACL", "SETUSER", "default", "-evalsha", "-eval")
        allow = ("ACL", "SETUSER", "default", "+evalsha", "+eval")
        threading.Timer(0.3, server.execute_command, allow).start()
    names = ("normal_release_failures", "release_script_errors", "emergency_releases")
    until(lambda: [client.counters()[name] for name in names] == [1, 1, 1])
    assert not client.status()["leases"]
