"""Worker processes of the benchmark `peers` for locks that are used from Python.

usage: worker.py PEER URL PLAY KEY TTL_MS HOLD_US EACH PROCESSES

Forks PROCESSES workers that share one lock. They talk to the benchmark like those written in Rust
(worker.rs): a byte on standard input opens the gate for all of them, its hang-up ends them, and
every line on standard output is one report.

A peer is a class with `acquire`, `release` and, for the yardstick, `bare`. gpulock's own Python
package becomes one more of them.
"""

import base64
import http.client
import json
import os
import select
import signal
import statistics
import sys
import threading
import time
import urllib.parse
import uuid

import redis
import redis.lock
import redis_lock

BLOCK = 50
STAGGER = 0.005
RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end"


class OnRedis:
    def __init__(self, url, **settings):
        self.redis = redis.Redis.from_url(url, **settings)
        self.no_op = self.redis.script_load("return 1")

    def bare(self):
        self.redis.evalsha(self.no_op, 0)


class RedisPy(OnRedis):
    """redis.lock.Lock with its defaults: it polls every 100 ms."""

    def __init__(self, url, key, ttl, renews):
        super().__init__(url)
        self.lock = self.redis.lock(key, timeout=ttl)
        self.acquire = self.lock.acquire
        self.release = self.lock.release


class PythonRedisLock(OnRedis):
    """It blocks in the server, so redis-py's default of 5 s for an answer would end each longer wait."""

    def __init__(self, url, key, ttl, renews):
        super().__init__(url, socket_timeout=None)
        self.lock = redis_lock.Lock(self.redis, key, expire=ttl, auto_renewal=renews)
        self.acquire = self.lock.acquire
        self.release = self.lock.release


class Polling(OnRedis):
    """What people write themselves: SET NX PX, again after 2 s, doubled up to 10 s."""

    def __init__(self, url, key, ttl, renews):
        super().__init__(url)
        self.key, self.ttl_ms, self.own = key, int(ttl * 1000), uuid.uuid4().hex
        self.compare_and_delete = self.redis.script_load(RELEASE)

    def acquire(self):
        pause = 2
        while not self.redis.set(self.key, self.own, nx=True, px=self.ttl_ms):
            time.sleep(pause)
            pause = min(2 * pause, 10)

    def release(self):
        self.redis.evalsha(self.compare_and_delete, 1, self.key, self.own)


class Etcd:
    """etcd's lock service over HTTP, with one lease for the worker, kept alive."""

    def __init__(self, url, key, ttl, renews):
        self.place = urllib.parse.urlsplit(url)
        self.name = base64.b64encode(key.encode()).decode()
        self.connection = self.connect()
        self.lease = self.call("lease/grant", TTL=int(ttl))["ID"]
        threading.Thread(target=self.keep_alive, args=(ttl / 3,), daemon=True).start()

    def connect(self):
        return http.client.HTTPConnection(self.place.hostname, self.place.port)

    def call(self, method, connection=None, **body):
        connection = connection or self.connection
        connection.request("POST", f"/v3/{method}", json.dumps(body))
        answer = connection.getresponse().read()
        # A stream of answers, of which one is asked for, comes as one line each.
        return json.loads(answer.splitlines()[0])

    def keep_alive(self, interval):
        connection = self.connect()
        while True:
            time.sleep(interval)
            self.call("lease/keepalive", connection, ID=self.lease)

    def acquire(self):
        self.key = self.call("lock/lock", name=self.name, lease=self.lease)["key"]

    def release(self):
        self.call("lock/unlock", key=self.key)


PEERS = {
    "redis-py": RedisPy,
    "python-redis-lock": PythonRedisLock,
    "polling": Polling,
    "etcd": Etcd,
}


def main(peer, url, play, key, ttl_ms, hold_us, each, processes):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.excepthook = end_with_error
    ttl = int(ttl_ms) / 1000
    for number in range(int(processes)):
        if os.fork() == 0:
            threading.Thread(target=end_with_benchmark, daemon=True).start()

            def open_lock(key=key):
                return PEERS[peer](url, key, ttl, renews=play == "keep")

            PLAYS[play](open_lock, key, int(hold_us) / 1e6, int(each), number)
            os._exit(0)
    for _ in range(int(processes)):
        _, status = os.wait()
        if status != 0:
            sys.exit(f"a worker ended with status {status}")


def pair(open_lock, key, hold, rounds, number):
    """Acquire and release, in blocks that take turns with two bare scripts."""
    lock, ours, theirs = open_lock(), [], []
    bare = getattr(lock, "bare", None)
    report("ready")
    wait_for_gate()
    for _ in range(rounds // BLOCK):
        for _ in range(BLOCK):
            start = now()
            lock.acquire()
            lock.release()
            ours.append(now() - start)
        for _ in range(BLOCK if bare else 0):
            start = now()
            bare()
            bare()
            theirs.append(now() - start)
    report("pair", int(statistics.median(ours)), int(statistics.median(theirs or [0])))


def cycle(open_lock, key, hold, each, number, baton=None):
    """Acquire, hold, release, and again."""
    lock = open_lock()
    report("ready")
    wait_for_gate()
    if baton:
        time.sleep(number * STAGGER)
    while True:
        report("asks", number, now())
        lock.acquire()
        held = now()
        if baton:
            os.write(baton, b"\n")
        if hold:
            time.sleep(hold)
        released = now()
        lock.release()
        if baton:
            os.read(baton, 1)
        report("turn", number, held, released)


def relay(*part):
    """The same, but another worker has its turn first. See baton.rs."""
    cycle(*part, baton=os.open(os.environ["GPULOCK_BENCH_BATON"], os.O_RDWR))


def once(open_lock, key, hold, each, number):
    """As many requests at the same time; each is served once."""

    def one(lock):
        wait_for_gate()
        report("asks", number, now())
        lock.acquire()
        report("held", number, now())
        time.sleep(hold)
        lock.release()

    threads = [threading.Thread(target=one, args=(open_lock(),)) for _ in range(each)]
    for thread in threads:
        thread.start()
    report("ready")
    for thread in threads:
        thread.join()
    signal.pause()


def keep(open_lock, key, hold, each, number):
    """Acquire as many locks, and keep them."""
    locks = [
        open_lock(name) for name in ([key] if each == 1 else [f"{key}-{n}" for n in range(each)])
    ]
    for lock in locks:
        lock.acquire()
    report("ready")
    signal.pause()


PLAYS = {"pair": pair, "cycle": cycle, "relay": relay, "once": once, "keep": keep}


def now():
    return time.monotonic_ns()


def report(*words):
    # One write a line: the workers share the pipe.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def wait_for_gate():
    """The byte is left where it is, for the others."""
    gate = select.poll()
    gate.register(0, select.POLLIN)
    gate.poll()


def end_with_benchmark():
    gate = select.poll()
    gate.register(0, 0)
    gate.poll()
    os._exit(0)


def end_with_error(error):
    sys.__excepthook__(error.exc_type, error.exc_value, error.exc_traceback)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
