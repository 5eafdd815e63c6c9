"""A configuration file that changes while workers run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpulock
import pytest
from conftest import until
from gpulock import _process
from gpulock.testing import StoreForTests
from test_process import in_child

Look = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def file(
    store: StoreForTests,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Path:
    """The configuration file; store and pool are in it, not in the environment."""
    for name in ("GPULOCK_STORE", "GPULOCK_POOL"):
        monkeypatch.delenv(name)
    caplog.set_level(logging.INFO, "gpulock")
    file = tmp_path / "config.yml"
    monkeypatch.setenv("GPULOCK_CONFIG", str(file))
    write(file, store.url, max_wait_time=11)
    # What the tests look with is opened before anything changes.
    store.status()
    return file


def write(file: Path, store: str, pool: str = "default", **lock: object) -> None:
    """Replaces the file in one step."""
    values = "".join(f"  {name}: {value}\n" for name, value in lock.items())
    fresh = file.with_suffix(".new")
    fresh.write_text(f"store: {store}\npool: {pool}\ngpu_lock:\n{values}")
    fresh.replace(file)


def longest(client: gpulock.Client) -> float:
    """What is in force."""
    return float(client.settings["gpu_lock.max_wait_time"])


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]


def test_new_leases_use_new_values(file: Path, store: StoreForTests) -> None:
    client = gpulock.Client()
    with store.held_by_somebody_else():
        write(file, store.url, max_wait_time=0)
        until(lambda: longest(client) == 0)
        with pytest.raises(gpulock.GpuLockTimeout), client.lease(gpus=[0]):
            pytest.fail("somebody else has it")


def test_a_client_with_a_file_of_its_own(file: Path, store: StoreForTests, tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    write(own, store.url, max_wait_time=12)
    named, other = gpulock.Client(config=own), gpulock.Client()
    write(own, store.url, max_wait_time=22)
    until(lambda: longest(named) == 22)
    assert longest(other) == 11


def test_the_process_may_go_elsewhere(
    file: Path, store: StoreForTests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GPULOCK_CONFIG")
    monkeypatch.chdir(tmp_path)
    named, found = gpulock.Client(config="config.yml"), gpulock.Client(pool="default")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write(file, store.url, max_wait_time=22)
    until(lambda: (longest(named), longest(found)) == (22, 22))


def test_an_invalid_file_is_refused_once_with_its_place_and_a_way_out(
    file: Path, store: StoreForTests, caplog: pytest.LogCaptureFixture, leases: Look
) -> None:
    first, second = gpulock.Client(), gpulock.Client(config=file)
    with gpulock.lease() as held:
        write(file, store.url, max_wait_tim=33)
        for client in (first, second):
            key = client._key
            until(lambda key=key: (_process.opened(key), _process._clients.by_key[key].refused)[1])
            assert longest(client) == 11
        (told,) = errors(caplog)
        assert f"{file}:4" in told and "max_wait_time" in told and "\nhint: " in told
        held.check()
    with gpulock.lease():
        assert len(leases()) == 1
    write(file, store.url, max_wait_time=44)
    until(lambda: longest(first) == 44)


def test_another_store_or_pool_needs_a_restart(
    file: Path,
    store: StoreForTests,
    leases: Look,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = gpulock.Client()
    before = (client.store, client.pool)
    write(file, f"sqlite://{tmp_path / 'other.db'}", "lab", max_wait_time=22)
    until(lambda: longest(client) == 22)
    assert (client.store, client.pool) == before
    (told,) = errors(caplog)
    assert "another store and pool" in told and "\nhint: restart it" in told
    with client.lease():
        assert len(leases()) == 1
    assert not (tmp_path / "other.db").exists()


def test_a_change_costs_no_connection(file: Path, store: StoreForTests) -> None:
    client = gpulock.Client(store="memory:")
    with client.lease() as held:
        write(file, store.url, max_wait_time=22)
        until(lambda: longest(client) == 22)
        # A store in memory that was opened anew would be empty.
        assert [one["lease_id"] for one in client.status()["leases"]] == [held.lease_id]


def test_the_file_is_looked_at_no_more_than_once_a_second(
    file: Path, store: StoreForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, looks = [1000.0], []
    monkeypatch.setattr(_process.time, "monotonic", lambda: clock[0])
    stamp = _process._stamp
    monkeypatch.setattr(_process, "_stamp", lambda name: (looks.append(name), stamp(name))[1])
    client = gpulock.Client()
    looks.clear()
    for _ in range(100):
        assert longest(client) == 11
    assert looks == []
    clock[0] += 1.0
    for _ in range(100):
        assert longest(client) == 11
    assert looks == [str(file)]


def test_a_child_that_meets_an_invalid_file_has_the_values_of_its_parent(
    file: Path, store: StoreForTests, leases: Look, caplog: pytest.LogCaptureFixture
) -> None:
    client = gpulock.Client()
    write(file, store.url, max_wait_tim=33)

    def child() -> None:
        assert longest(client) == 11
        assert len(errors(caplog)) == 1
        with client.lease():
            assert [lease["pid"] for lease in leases()] == [os.getpid()]
        write(file, store.url, max_wait_time=55)
        until(lambda: longest(client) == 55)

    assert in_child(child) == 0
    until(lambda: longest(client) == 55)


def test_a_child_stays_in_the_store_of_its_parent(
    file: Path, store: StoreForTests, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = gpulock.Client()
    place = client.store
    other = f"sqlite://{tmp_path / 'other.db'}"
    write(file, other, max_wait_time=22)

    def child() -> None:
        assert (client.store, longest(client)) == (place, 22)
        assert len(errors(caplog)) == 1

    def grandchild() -> None:
        assert in_child(child) == 0

    def child_with_a_store_of_its_own() -> None:
        os.environ["GPULOCK_STORE"] = other
        assert client.store == other

    assert in_child(child) == 0
    assert in_child(grandchild) == 0
    assert in_child(child_with_a_store_of_its_own) == 0
