"""Measures what a lock costs a Python program, side by side in one run on a private Redis server.

Run by scripts/bench-python, which installs what it needs. docs/reference/peers.md says what the rows
mean. Medians over interleaved rounds, so that what disturbs the machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis
import redis_lock

ROUNDS = 20
PAIRS = 100


def main() -> None:
    """Prints one table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--wheel", type=Path, help="the wheel whose size is printed")
    wheel = arguments.parse_args().wheel
    with redis_server() as port:
        os.environ["GPULOCK_STORE"] = f"redis://127.0.0.1:{port}/0?after_restart=trust"
        os.environ["GPULOCK_GPUS"] = "0"
        table("acquire + release, no contention", locks(port))
        heartbeats()
    imports()
    if wheel:
        print(f"\nwheel: {wheel.stat().st_size / 2**20:.1f} MiB")


def locks(port: int) -> dict[str, Callable[[], None]]:
    """One pair of acquire and release each."""
    import gpulock

    client = redis.Redis(port=port)
    of_redis_py = client.lock("redis-py", timeout=30)
    of_redis_lock = redis_lock.Lock(client, "python-redis-lock", expire=30)
    connected = gpulock.Client()

    @gpulock.gpu_lock()
    def decorated() -> None:
        pass

    def bare() -> None:
        client.ping()
        client.ping()

    def native() -> None:
        connected.acquire(task="bench", gpus=1).release()

    def redis_py() -> None:
        of_redis_py.acquire()
        of_redis_py.release()

    def python_redis_lock() -> None:
        of_redis_lock.acquire()
        of_redis_lock.release()

    return {
        "two bare PINGs of redis-py": bare,
        "gpulock, Client.acquire and release": native,
        "gpulock, @gpu_lock()": decorated,
        "redis.lock.Lock": redis_py,
        "python-redis-lock": python_redis_lock,
    }


def table(title: str, pairs: dict[str, Callable[[], None]]) -> None:
    """Medians in microseconds, each also as a multiple of the first row."""
    times: dict[str, list[float]] = {name: [] for name in pairs}
    for pair in pairs.values():
        for _ in range(PAIRS):
            pair()
    for _ in range(ROUNDS):
        for name, pair in pairs.items():
            for _ in range(PAIRS):
                began = time.perf_counter()
                pair()
                times[name].append((time.perf_counter() - began) * 1e6)
    print(f"{title}: median, p99")
    yardstick = statistics.median(next(iter(times.values())))
    for name, measured in times.items():
        median = statistics.median(measured)
        p99 = statistics.quantiles(measured, n=100)[98]
        print(f"  {name:38} {median:7.0f} µs {p99:7.0f} µs  {median / yardstick:5.2f}")


def heartbeats() -> None:
    """Native code holds the interpreter lock for three seconds: how old may a heartbeat get?"""
    import gpulock

    watching = (
        "import gpulock,time\n"
        "client, oldest = gpulock.Client(), 0.0\n"
        "end = time.monotonic() + 3.5\n"
        "while time.monotonic() < end:\n"
        "    for lease in client.status()['leases']:\n"
        "        oldest = max(oldest, lease['last_heartbeat_seconds_ago'])\n"
        "    time.sleep(0.01)\n"
        "print(oldest)\n"
    )
    with gpulock.lease(gpus=1, heartbeat_interval=0.1, heartbeat_timeout=1.0) as held:
        watcher = subprocess.Popen([sys.executable, "-c", watching], stdout=subprocess.PIPE)
        time.sleep(0.2)
        ctypes.PyDLL(None).usleep(3_000_000)
        oldest, _ = watcher.communicate()
        kept = not held.lost
    print(
        "\ninterpreter lock held for 3 s by native code, heartbeats every 0.1 s: the oldest seen "
        f"was {float(oldest):.2f} s, the lease was {'kept' if kept else 'LOST'}"
    )


def imports() -> None:
    """`import gpulock` beside an interpreter that imports nothing, in turns."""

    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    codes = ("pass", "import gpulock", "import redis")
    taken: dict[str, list[float]] = {code: [] for code in codes}
    for _ in range(15):
        for code in codes:
            taken[code].append(seconds(code))
    nothing, ours, redis_py = (statistics.median(taken[code]) * 1e3 for code in codes)
    print(
        f"\nimport gpulock: {ours - nothing:.1f} ms more than an interpreter that imports nothing "
        f"({nothing:.1f} ms); import redis: {redis_py - nothing:.1f} ms more"
    )


@contextlib.contextmanager
def redis_server() -> Iterator[int]:
    """A private server on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("failed to start a private server\n\nhint: install redis-server")
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)
            deadline = time.monotonic() + 30
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
            yield port
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
