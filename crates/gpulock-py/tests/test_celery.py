"""Locked tasks in real Celery workers, on a private Redis server."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import gpulock
import pytest
from celery.exceptions import Ignore, TimeLimitExceeded, WorkerLostError
from celery_workers import PROJECT, Project
from conftest import LONG, PrivateRedis, until
from redis import Redis

# No lock and no result of one test is seen by another: each has a queue and a pool of its own, or
# waits until the GPU of the shared one is free.
MakeProject = Callable[..., Project]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    server = PrivateRedis(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def shared(server: PrivateRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with a worker of five processes, for tests that leave it as it was."""
    project = Project(tmp_path_factory.mktemp("shared"), server, server.url, "shared")
    project.worker("--pool", "prefork", "--concurrency", "5")
    yield project
    project.stop()


@pytest.fixture
def project(shared: Project) -> Iterator[Project]:
    yield shared
    until(shared.is_free, "for a GPU that nobody holds or waits for")


@pytest.fixture
def make_project(
    server: PrivateRedis, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[MakeProject]:
    """Makes a project of this test alone, with a store in a file if nothing is said."""
    made: list[Project] = []

    def make(store: str | None = None) -> Project:
        store = store or f"sqlite://{tmp_path / 'gpulock.db'}"
        made.append(Project(tmp_path, server, store, request.node.name))
        return made[-1]

    yield make
    for project in made:
        project.stop()


# --- how a task may end -----------------------------------------------------------------------


def test_a_task_runs_under_a_lease_and_gives_it_back(project: Project) -> None:
    task = project.send("work")
    assert task.get(timeout=LONG) == "done"
    [entry] = project.journal("in", task)
    assert entry["gpus"] == [0]
    until(project.is_free)


def test_the_exception_of_a_task_is_its_result(project: Project) -> None:
    task = project.send("fail")
    with pytest.raises(ValueError, match="the model is broken"):
        task.get(timeout=LONG)
    assert [entry["error"] for entry in project.noted("failed", task)] == ["ValueError"]
    assert project.call("work") == "done"


def test_the_next_retry_of_a_task_is_no_copy_of_it(project: Project) -> None:
    task = project.send("fail_and_retry")
    with pytest.raises(ValueError, match="the model is broken"):
        task.get(timeout=LONG)
    assert [entry["retries"] for entry in project.journal("in", task)] == [0, 1, 2]
    states = [entry["state"] for entry in project.noted("done", task, 3)]
    assert states == ["RETRY", "RETRY", "FAILURE"]


def test_a_soft_time_limit_ends_the_lease(project: Project) -> None:
    task = project.send("hold", "no such gate", soft_time_limit=1)
    assert type(task.get(timeout=LONG, propagate=False)).__name__ == "SoftTimeLimitExceeded"
    assert project.noted("out", task)
    assert project.call("work") == "done"


def test_a_soft_time_limit_ends_a_wait(project: Project) -> None:
    gate = project.gate("soft wait")
    holder = project.send("hold", str(gate))
    project.noted("in", holder)
    task = project.send("work", soft_time_limit=1)
    assert type(task.get(timeout=LONG, propagate=False)).__name__ == "SoftTimeLimitExceeded"
    until(lambda: not project.queue_of_gpus())
    gate.touch()
    assert holder.get(timeout=LONG) == "held"
    assert not project.journal("in", task)


@pytest.mark.parametrize(
    "task", [("hold", "no such gate"), ("hold_in_native_code", 30)], ids=["python", "native"]
)
def test_a_hard_time_limit_hands_the_gpu_on_when_the_process_is_gone(
    project: Project, task: tuple[Any, ...]
) -> None:
    killed = project.send(*task, time_limit=1)
    [entry] = project.noted("in", killed)
    successor = project.send("look_at", entry["pid"])
    assert isinstance(killed.get(timeout=LONG, propagate=False), TimeLimitExceeded)
    assert successor.get(timeout=LONG) in ("gone", "Z", "X")


def test_a_process_that_lingers_after_its_kill_keeps_the_gpu(make_project: MakeProject) -> None:
    project = make_project()
    project.worker("--concurrency", "2", PROJECT_LINGERS="30")
    killed = project.send("hold", "no such gate", time_limit=1)
    [entry] = project.noted("in", killed)
    successor = project.send("look_at", entry["pid"])
    assert successor.get(timeout=LONG) in ("gone", "Z", "X")
    assert project.journal("out", killed), "the body had ended before the process"


def test_revoke_with_terminate_hands_the_gpu_on(project: Project) -> None:
    task = project.send("hold", "no such gate")
    [entry] = project.noted("in", task)
    successor = project.send("look_at", entry["pid"])
    project.app.control.revoke(task.id, terminate=True)
    assert successor.get(timeout=LONG) in ("gone", "Z", "X")
    until(lambda: task.state == "REVOKED")


def test_revoke_with_terminate_ends_a_wait(project: Project) -> None:
    gate = project.gate("revoked wait")
    holder = project.send("hold", str(gate))
    project.noted("in", holder)
    task = project.send("work")
    until(lambda: project.queue_of_gpus() == ["work"])
    project.app.control.revoke(task.id, terminate=True)
    until(lambda: not project.queue_of_gpus())
    gate.touch()
    assert holder.get(timeout=LONG) == "held"


def test_a_killed_process_of_the_pool_loses_its_gpu(project: Project) -> None:
    task = project.send("hold", "no such gate")
    [entry] = project.noted("in", task)
    os.kill(entry["pid"], signal.SIGKILL)
    assert isinstance(task.get(timeout=LONG, propagate=False), WorkerLostError)
    assert project.call("work") == "done"


def test_a_killed_process_is_reported_though_nobody_waits(project: Project) -> None:
    task = project.send("hold", "no such gate")
    [entry] = project.noted("in", task)
    os.kill(entry["pid"], signal.SIGKILL)
    until(project.is_free)
    [ended] = [
        event
        for event in gpulock.Client(project.store).history()
        if event["event"] == "ended" and event["token"] == entry["token"]
    ]
    assert "died" in str(ended["how"])


# --- the end of a worker ----------------------------------------------------------------------


def test_a_warm_shutdown_lets_the_holder_finish(make_project: MakeProject) -> None:
    project = make_project()
    worker = project.worker("--concurrency", "2")
    gate = project.gate("open")
    holder = project.send("hold", str(gate))
    project.noted("in", holder)
    worker.process.send_signal(signal.SIGTERM)
    worker.await_log("Warm shutdown")
    assert not project.is_free()
    gate.touch()
    worker.process.wait(LONG)
    assert holder.get(timeout=LONG) == "held"
    assert project.is_free()


def test_a_cold_shutdown_frees_the_gpu(make_project: MakeProject) -> None:
    project = make_project()
    worker = project.worker("--concurrency", "2")
    task = project.send("hold", "no such gate")
    project.noted("in", task)
    worker.stop(signal.SIGQUIT)
    with gpulock.Client(project.store).acquire(task="next", max_wait_time=LONG) as held:
        assert held.gpus == [0]


# --- messages that come twice -----------------------------------------------------------------


def test_a_copy_of_a_running_task_does_not_run(make_project: MakeProject) -> None:
    project = make_project()
    sweep = {"visibility_timeout": 5, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    worker = project.worker(
        *("--concurrency", "2"), settings={"broker_transport_options": sweep, "task_time_limit": 99}
    )
    gate = project.gate("open")
    task = project.send("hold", str(gate))
    project.noted("in", task)
    project.noted("delivered", task, 2)
    [copy] = project.noted("done", task)
    assert copy["state"] == "IGNORED"
    assert task.state == "PENDING", "the copy left no result"
    gate.touch()
    assert task.get(timeout=LONG) == "held"
    assert len(project.journal("in", task)) == 1
    warning = "delivers project.hold again after 5s (visibility_timeout), but it may run for 99s"
    worker.await_log(warning)


def test_a_copy_runs_when_the_first_run_is_dead(make_project: MakeProject) -> None:
    project = make_project()
    project.worker("--concurrency", "1", settings={"task_reject_on_worker_lost": True})
    gate = project.gate("open")
    task = project.send("hold", str(gate))
    [first] = project.noted("in", task)
    os.kill(first["pid"], signal.SIGKILL)
    _, second = project.noted("in", task, 2)
    gate.touch()
    assert task.get(timeout=LONG) == "held"
    assert second["lease"] == first["lease"]
    assert second["token"] > first["token"]


def test_two_calls_at_the_same_time_in_one_task_have_two_leases(project: Project) -> None:
    first, second = project.call("two_at_once")
    assert first != second


# --- waiting by retry -------------------------------------------------------------------------


def test_waits_count_one_by_one_and_cost_no_retries(project: Project) -> None:
    gate = project.gate("storm")
    holder = project.send("hold", str(gate))
    project.noted("in", holder)
    task = project.send("patient_and_broken", priority=3)
    deliveries = project.noted("delivered", task, 4)
    gate.touch()
    with pytest.raises(ValueError, match="the model is broken"):
        task.get(timeout=LONG)
    assert [entry["retries"] for entry in deliveries[:4]] == [0, 1, 2, 3]
    assert {entry["queue"]["priority"] for entry in deliveries} == {3}
    # Its one retry of its own, and then its error, once.
    entries = project.journal("in", task)
    assert [entry["retries"] for entry in entries] == [0, 1]
    assert not any((entry["headers"] or {}).get("gpulock") for entry in entries)
    assert [entry["error"] for entry in project.noted("failed", task)] == ["ValueError"]
    states = [entry["state"] for entry in project.journal("done", task)]
    assert states == ["RETRY"] * (len(states) - 1) + ["FAILURE"]


def test_a_place_in_the_queue_is_kept_over_retries(project: Project) -> None:
    gate = project.gate("order")
    tasks = [project.send("hold", str(gate))]
    project.noted("in", tasks[0])
    names = ["patient", "work", "patient", "work"]
    for number, name in enumerate(names, start=1):
        tasks.append(project.send(name))
        until(lambda: project.queue_of_gpus() == names[:number])
    project.noted("done", tasks[1], 2)
    assert project.queue_of_gpus() == names
    gate.touch()
    for task in tasks:
        task.get(timeout=LONG)
    served = [entry["id"] for entry in project.journal("in")]
    assert served[-5:] == [task.id for task in tasks]


def test_a_wait_by_retry_ends_after_max_wait_time(project: Project) -> None:
    gate = project.gate("late")
    holder = project.send("hold", str(gate))
    project.noted("in", holder)
    task = project.send("impatient")
    error = task.get(timeout=LONG, propagate=False)
    assert isinstance(error, gpulock.GpuLockTimeout)
    assert "GPU_LOCK_TIMEOUT" in str(error)
    assert error.holder is not None
    assert error.holder["task"] == "project.hold"
    assert project.queue_of_gpus() == [], "its place is given up"
    gate.touch()
    holder.get(timeout=LONG)


def test_a_revoked_wait_gives_its_place_up(project: Project) -> None:
    gate = project.gate("revoked")
    holder = project.send("hold", str(gate))
    project.noted("in", holder)
    task = project.send("patient")
    project.noted("done", task)
    assert project.queue_of_gpus() == ["patient"]
    project.app.control.revoke(task.id)
    until(lambda: not project.queue_of_gpus())
    gate.touch()
    holder.get(timeout=LONG)
    assert not project.journal("in", task)


# --- no lock at all ---------------------------------------------------------------------------


def test_work_on_the_cpu_never_touches_the_store(
    make_project: MakeProject, server: PrivateRedis
) -> None:
    store = f"redis://127.0.0.1:{server.port}/5"
    project = make_project(store)
    project.worker("--concurrency", "2")
    for _ in range(4):
        assert project.call("recognise", "cpu") == "cpu"
    with Redis.from_url(store) as client:
        assert client.dbsize() == 0
        assert project.call("recognise", "cuda") == "cuda"
        assert client.dbsize() > 0


# --- many at once -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_four_workers_and_fifty_tasks_each_never_overlap(
    make_project: MakeProject, server: PrivateRedis, kind: str
) -> None:
    project = make_project(f"redis://127.0.0.1:{server.port}/6" if kind == "redis" else None)
    for _ in range(4):
        project.worker("--concurrency", "1")
    tasks = [project.send("work", 0.002) for _ in range(4 * 50)]
    for task in tasks:
        assert task.get(timeout=LONG) == "done"
    entries = project.journal("in")
    assert len(entries) == len(tasks) == len(project.journal("out"))
    assert len({entry["pid"] for entry in entries}) == 4
    assert project.overlaps() == []
    assert project.is_free()


def test_the_pool_of_threads_never_overlaps(make_project: MakeProject) -> None:
    project = make_project()
    worker = project.worker("--pool", "threads", "--concurrency", "4")
    tasks = [project.send(name) for name in ["work", "with_base"] * 15]
    for task in tasks:
        task.get(timeout=LONG)
    assert len(project.journal("in")) == len(project.journal("out")) == len(tasks)
    assert len({entry["pid"] for entry in project.journal("in")}) == 1
    assert project.overlaps() == []
    worker.stop()
    assert project.is_free()


def test_threads_that_wait_by_retry_never_overlap(make_project: MakeProject) -> None:
    project = make_project()
    project.worker("--pool", "threads", "--concurrency", "4")
    gate = project.gate("open")
    holder = project.send("hold", str(gate))
    project.noted("in", holder)
    tasks = [project.send("patient") for _ in range(6)]
    for task in tasks:
        project.noted("done", task)
    assert len(project.queue_of_gpus()) == len(tasks), "more than there are threads"
    gate.touch()
    for task in [holder, *tasks]:
        task.get(timeout=LONG)
    assert project.overlaps() == []
    assert {entry["state"] for entry in project.journal("done")} == {"RETRY", "SUCCESS"}


# --- a base class, eager tasks, the store's restart -------------------------------------------


def test_a_task_of_the_base_class_is_locked(project: Project) -> None:
    assert project.call("with_base") == [0]
    assert project.call("with_base_unbound", 7) == [7, 0]


def test_eager_tasks_are_locked_and_wait_where_they_are(make_project: MakeProject) -> None:
    project = make_project()
    program = """
        from project import app, patient, work, note
        import threading, gpulock
        app.conf.task_always_eager = True
        is_held = threading.Event()
        def hold():
            with gpulock.lease(gpus=[0], task="somebody else"):
                is_held.set()
                while not gpulock.Client().status()["queue"]:
                    pass
        threading.Thread(target=hold).start()
        is_held.wait()
        assert patient.delay().get() == "done"
        assert work.apply().get() == "done"
        try:
            with gpulock.lease(gpus=[0]):
                assert patient.delay().get() == "done", "inside a lease that covers it"
        finally:
            note("end")
    """
    lines = "\n".join(line.removeprefix("        ") for line in program.splitlines())
    environment = {**project.environment, "PYTHONWARNINGS": "error::ResourceWarning"}
    subprocess.run(
        [sys.executable, "-c", lines], cwd=PROJECT, env=environment, check=True, timeout=LONG
    )
    assert len(project.journal("in")) == 3
    assert len(project.journal("delivered")) == 3, "nothing was sent again"


def test_a_restart_of_the_lock_server_in_the_middle_of_a_task(
    make_project: MakeProject, tmp_path: Path
) -> None:
    folder = tmp_path / "locks"
    folder.mkdir()
    locks = PrivateRedis(folder)
    try:
        project = make_project(locks.url)
        project.worker("--concurrency", "1")
        gate = project.gate("open")
        task = project.send("hold", str(gate))
        [entry] = project.noted("in", task)
        # In an orderly way: one that is killed may forget what it wrote in the last second.
        locks.process.terminate()
        locks.process.wait(LONG)
        locks.start()
        gate.touch()
        assert task.get(timeout=LONG) == "held"
        until(project.is_free)
        [ended] = [
            event
            for event in gpulock.Client(project.store).history()
            if event["event"] == "ended" and event["token"] == entry["token"]
        ]
        assert ended["how"] == "released"
        assert project.call("work") == "done"
    finally:
        locks.kill()


# --- without a worker -------------------------------------------------------------------------


def test_an_ignored_duplicate_survives_pickling() -> None:
    from gpulock.celery import IgnoredDuplicate

    error = gpulock.DuplicateTask("it runs already", {"holders": [{"task": "asr"}]})
    ignored = pickle.loads(pickle.dumps(IgnoredDuplicate.of(error)))
    assert isinstance(ignored, gpulock.DuplicateTask)
    assert isinstance(ignored, Ignore)
    assert (ignored.message, ignored.holder) == ("it runs already", {"task": "asr"})


@pytest.mark.parametrize(
    "header",
    [None, "x", {}, {"waits": "1"}, {"waits": 9}, {"waits": -1}, {"waits": 1, "since": [1]}],
)
def test_a_strange_header_counts_no_waits_that_were_not(header: Any) -> None:
    from celery.app.task import Context
    from gpulock.celery import _Execution

    execution = _Execution(Context(id="1", retries=2, headers={"gpulock": header}))
    assert execution.own_retries in (1, 2)
    assert execution.own_retries + execution.waits == 2
    assert execution.since == {}


def test_outside_of_a_task_there_is_no_attempt() -> None:
    from gpulock.celery import attempt_for

    assert attempt_for(test_outside_of_a_task_there_is_no_attempt) is None


def test_a_class_with_the_base_is_locked_as_its_options_say(gpulock_store: Any) -> None:
    from celery import Celery
    from gpulock.celery import GpuTask

    class Detect(GpuTask):
        name = "detect"
        gpu_lock: ClassVar = {"task": "one"}

        def run(self) -> str:
            return gpulock.current().task

    class DetectMore(Detect):
        name = "detect more"
        gpu_lock: ClassVar = {"task": "another"}

    app = Celery("tests", broker="memory://", set_as_current=False)
    for task, label in ((Detect, "one"), (DetectMore, "another")):
        assert app.register_task(task()).apply().get() == label
    ended = [event for event in gpulock_store.history() if event["event"] == "ended"]
    assert [event["task"] for event in ended] == ["another", "one"]


@pytest.mark.parametrize(
    ("waits", "expected", "visibility_timeout", "shortest", "longest"),
    [
        (0, 0.001, None, 1.0, 1.0),
        (0, 3.0, None, 2.7, 3.3),
        (0, 500.0, None, 5.0, 5.0),
        (2, 500.0, None, 20.0, 20.0),
        (99, 500.0, None, 60.0, 60.0),
        (99, 500.0, 30, 15.0, 15.0),
        (0, None, None, 1.8, 2.2),
        (99, None, None, 9.0, 11.0),
    ],
)
def test_a_wait_by_retry_has_bounds(
    waits: int,
    expected: float | None,
    visibility_timeout: float | None,
    shortest: float,
    longest: float,
    gpulock_store: Any,
) -> None:
    from celery import Celery
    from celery.app.task import Context
    from gpulock.celery import _TaskAttempt

    app = Celery("tests", broker="redis://127.0.0.1:1", set_as_current=False)
    if visibility_timeout is not None:
        app.conf.broker_transport_options = {"visibility_timeout": visibility_timeout}

    @app.task
    def work() -> None: ...

    header = {"gpulock": {"waits": waits, "since": {}}}
    work.request_stack.push(Context(id="1", retries=waits, headers=header))
    attempt = _TaskAttempt(work, work.run)
    assert shortest <= attempt._countdown(expected) <= longest
    assert attempt.comes_back_within >= longest + 10
