"""The API keeps to its own document: `gpulock serve` is asked what /openapi.json promises.

Requests are generated from the document, fitting ones and others. No answer may be a fault of the
server, have a status, a content type or a shape that the document does not name, or miss a header.
`GPULOCK_BINARY` names the program; without it, it is the one that `cargo build` made.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

ROOT = Path(__file__).resolve().parents[4]

OPERATE = "an-operate-token-of-the-contract"
READ = "a-read-token-of-the-contract"

Case = schemathesis.Case[Any]

# Seconds; nothing here takes nearly so long.
PATIENCE = 60

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]

ASKED = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def operations() -> list[str]:
    """Every operation of the committed document, as `GET /livez`."""
    document = json.loads((ROOT / "docs/reference/openapi.json").read_text())
    methods = {"get", "put", "post", "delete", "patch"}
    return [
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        for method in item
        if method in methods
    ]


OPERATIONS = operations()


def program() -> Path:
    """The binary under test."""
    named = os.environ.get("GPULOCK_BINARY")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = Path(named) if named else target / "debug" / "gpulock"
    assert path.is_file(), f"{path} is not there\nhint: cargo build -p gpulock-cli"
    return path


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(folder: Path, tokens: str) -> Iterator[str]:
    """A server with a store of its own; gives its address, and its log if it does not start."""
    config, log = folder / "config.yml", folder / "serve.log"
    config.write_text("gpu_lock:\n  max_wait_time: 0.2\n  store_patience: 1\n")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    variables = {
        "PATH": os.environ["PATH"],
        "GPULOCK_CONFIG": str(config),
        "GPULOCK_STORE": f"sqlite://{folder}/gpulock.db",
        "GPULOCK_GPUS": "0,1",
        "GPULOCK_SERVER__LISTEN": f"127.0.0.1:{port}",
        "GPULOCK_SERVER__TOKENS": tokens,
    }
    with log.open("wb") as output:
        server = subprocess.Popen(
            [program(), "serve"], cwd=folder, env=variables, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not is_ready(address):
            assert server.poll() is None, f"the server ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"the server is not ready:\n{log.read_text()}"
            time.sleep(0.02)
        yield address
        assert server.poll() is None, f"the server ended:\n{log.read_text()}"
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0, log.read_text()
        assert OPERATE not in log.read_text()
        assert READ not in log.read_text()
    finally:
        server.kill()
        server.wait()


def is_ready(address: str) -> bool:
    """Whether the server answers that it can work."""
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{address}/readyz", timeout=PATIENCE).ok
    return False


@pytest.fixture(scope="module")
def open_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without tokens."""
    with serving(tmp_path_factory.mktemp("open"), "") as address:
        yield address


@pytest.fixture(scope="module")
def locked_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a token of each role."""
    tokens = f"read:{READ},operate:{OPERATE}"
    with serving(tmp_path_factory.mktemp("locked"), tokens) as address:
        yield address


@pytest.fixture(scope="module")
def open_document(open_address: str) -> Any:
    """What the server without tokens says of itself."""
    return schemathesis.openapi.from_url(f"{open_address}/openapi.json")


@pytest.fixture(scope="module")
def locked_document(locked_address: str) -> Any:
    """What the server with tokens says of itself."""
    url = f"{locked_address}/openapi.json"
    return schemathesis.openapi.from_url(url, headers=bearer(READ))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_without_tokens(open_document: Any, operation: str) -> None:
    keep_to_the_document(open_document, operation, {})


@pytest.mark.parametrize("operation", OPERATIONS)
def test_with_the_token_that_may_change(locked_document: Any, operation: str) -> None:
    keep_to_the_document(locked_document, operation, bearer(OPERATE))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_with_the_token_that_may_only_ask(locked_document: Any, operation: str) -> None:
    keep_to_the_document(locked_document, operation, bearer(READ))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_with_no_token(locked_document: Any, operation: str) -> None:
    keep_to_the_document(locked_document, operation, {})


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def keep_to_the_document(document: Any, operation: str, headers: dict[str, str]) -> None:
    """Sends fitting requests and others, and holds each answer against the document."""
    method, path = operation.split(" ")
    described = document[path][method]
    if stream := stream_of(described):
        look_at_a_stream(described, stream, headers)
        return
    for mode in modes(described):

        @ASKED
        @given(described.as_strategy(generation_mode=mode))
        def ask(case: Case) -> None:
            wait_briefly(case)
            # A header of the generated request would win over the one meant here.
            case.headers.pop("Authorization", None)
            case.call_and_validate(headers=headers, checks=CHECKS, timeout=PATIENCE)

        ask()


def modes(described: Any) -> list[GenerationMode]:
    """What can be generated: without any input there is nothing that could be wrong."""
    has_input = bool(described.body) or any(described.iter_parameters())
    wrong = [GenerationMode.NEGATIVE] if has_input else []
    return [GenerationMode.POSITIVE, *wrong]


def stream_of(described: Any) -> str | None:
    """The media type, if the document calls the answer a stream without an end."""
    answer = described.definition.raw["responses"].get("200", {})
    streams = ("text/event-stream", "application/x-ndjson")
    return next((stream for stream in streams if stream in answer.get("content", {})), None)


def look_at_a_stream(described: Any, stream: str, headers: dict[str, str]) -> None:
    """Takes the head of an answer that has no end."""
    url = described.base_url.rstrip("/") + described.path
    body = {} if described.body else None
    with requests.request(
        described.method, url, headers=headers, json=body, stream=True, timeout=PATIENCE
    ) as answer:
        assert str(answer.status_code) in described.definition.raw["responses"]
        assert answer.status_code < 500
        if answer.ok:
            assert answer.headers["content-type"].startswith(stream)


def wait_briefly(case: Case) -> None:
    """Requests for a GPU may wait for as long as they like; these have not so much time."""
    body: Any = case.body
    if isinstance(body, dict) and isinstance(body.get("max_wait_time"), int | float):
        body["max_wait_time"] = min(body["max_wait_time"], 0.1)
