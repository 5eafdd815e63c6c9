"""The examples do what they say."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import gpulock
import httpx
import pytest
from conftest import LONG, REPOSITORY, PrivateRedis, until
from gpulock.testing import StoreForTests

EXAMPLES = REPOSITORY / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LONG,
    )


# --- Celery -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_four_services_share_one_gpu(
    redis: PrivateRedis, store: StoreForTests, tmp_path: Path, kind: str
) -> None:
    server = f"redis://127.0.0.1:{redis.port}"
    environment = {
        "GPULOCK_STORE": f"{server}/0" if kind == "redis" else store.url,
        "CELERY_BROKER": f"{server}/1",
        "CELERY_RESULTS": f"{server}/2",
    }
    log_file = tmp_path / "worker.log"
    options = ["-m", "celery", "-A", "tasks", "worker", "--concurrency", "4", "-l", "INFO"]
    with log_file.open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, *options],
            cwd=EXAMPLES / "celery",
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: " ready." in log_file.read_text(), "for the worker")
        client = run("run.py", cwd=EXAMPLES / "celery", **environment)
    finally:
        worker.terminate()
        worker.wait(LONG)
    assert client.returncode == 0, client.stderr + log_file.read_text()
    results, _, holders = client.stdout.partition("\n\n")
    assert results.splitlines() == [
        "said and heard       the lock goes on when work ends",
        "heard on the CPU     the lock goes on when work ends one task each time",
        "who speaks           [[0.11, 1.64, 0], [1.88, 3.2, 1], [3.44, 5.15, 0]]",
        "read                 ONE TASK EACH TIME",
    ]
    check_holders(holders)


def check_holders(text: str) -> None:
    """Four leases, one after the other, and none for the work on the CPU."""
    rows = re.findall(r"^0 +([\d.]+)s +([\d.]+)s  tasks\.(\w+)$", text, re.MULTILINE)
    tasks = ["diarize", "read_page", "synthesise", "transcribe"]
    assert sorted(task for _, _, task in rows) == tasks, text
    spans = sorted((float(begin), float(end)) for begin, end, _ in rows)
    # Printed to the millisecond.
    assert all(end <= begin + 0.0011 for (_, end), (begin, _) in pairwise(spans)), text


# --- FastAPI ----------------------------------------------------------------------------------


QUESTION = {
    "text": "how do I release a lock",
    "documents": ["the weather in Lisbon", "releasing the lock of a GPU", "a recipe for soup"],
}


def ask(*requests: tuple[str, str, Any]) -> list[httpx.Response]:
    """The answers of the service to requests that come at the same time."""

    async def all_at_once() -> list[httpx.Response]:
        transport = httpx.ASGITransport(example("fastapi_app").app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            calls = [client.request(method, path, json=body) for method, path, body in requests]
            return await asyncio.gather(*calls)

    return asyncio.run(all_at_once())


def test_a_web_service_answers_one_after_the_other(store: StoreForTests) -> None:
    answers = ask(*[("POST", "/search", QUESTION)] * 20)
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["document"] for answer in answers} == {"releasing the lock of a GPU"}
    ended = [event for event in store.history() if event["event"] == "ended"]
    spans = sorted((event["at"] - event["held_micros"], event["at"]) for event in ended)
    assert len(spans) == 20
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


def test_a_busy_web_service_says_when_to_come_again(
    store: StoreForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example("fastapi_app"), "LONGEST_WAIT", 0.2)
    service = sys.modules["fastapi_app"]
    monkeypatch.setattr("test_examples.example", lambda _name: service)
    with store.held_by_somebody_else(task="asr"):
        [answer, gpus] = ask(("POST", "/search", QUESTION), ("GET", "/gpus", None))
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["holder"]["task"] == "asr"
    assert [gpu["state"] for gpu in gpus.json()] == ["held"]


# --- a plain script ---------------------------------------------------------------------------


def test_a_plain_script_trains(store: StoreForTests, tmp_path: Path) -> None:
    done = run(str(EXAMPLES / "plain_script.py"), "model.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^training on GPU 0 after [\d.]+s$", done.stdout, re.MULTILINE)
    assert re.search(r"^finished at step 400: 9\d% right$", done.stdout, re.MULTILINE)
    assert json.loads((tmp_path / "model.json").read_text())["step"] == 400
    assert store.history()[0]["event"] == "ended"


def test_a_plain_script_stops_when_it_is_asked_and_goes_on_the_next_time(
    store: StoreForTests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, file = example("plain_script"), tmp_path / "model.json"
    with monkeypatch.context() as asked:
        asked.setattr(gpulock.Lease, "stop_requested", property(_after_ten_steps()))
        assert script.main(file) == 75
    assert json.loads(file.read_text())["step"] == 10
    assert script.main(file) == 0
    assert json.loads(file.read_text())["step"] == 400


def _after_ten_steps() -> Any:
    looks = iter(range(11))
    return lambda _lease: next(looks) == 10
