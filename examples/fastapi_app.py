"""A web service that searches on a GPU, one request after the other.

    uvicorn fastapi_app:app

Requests wait for the GPU without blocking the event loop. Who would wait too long hears 503 and
when to come again, and the GPU goes on to the next when a request is cancelled.
"""

from __future__ import annotations

import asyncio
from typing import Any

import gpulock
import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

app = FastAPI(title="search")

LONGEST_WAIT = 10.0
"""Seconds for which a request waits for the GPU."""

_WIDTH = 512


class Question(BaseModel):
    """What to look for, and where."""

    text: str
    documents: list[str]


@app.post("/search")
async def search(question: Question) -> dict[str, Any]:
    """The document that is nearest to the text."""
    async with gpulock.lease(gpus=1, task="search", max_wait_time=LONGEST_WAIT) as held:
        # The model computes in a thread, so that other requests are heard meanwhile.
        scores = await asyncio.to_thread(similarities, question.text, question.documents)
        best = int(scores.argmax())
        answer = {"document": question.documents[best], "score": round(float(scores[best]), 3)}
        return {**answer, "gpus": held.gpus, "waited": held.waited}


@app.get("/gpus")
async def gpus() -> list[dict[str, Any]]:
    """The GPUs and their states."""
    status = await asyncio.to_thread(gpulock.Client().status)
    return list(status["gpus"])


@app.exception_handler(gpulock.GpuLockTimeout)
async def busy(_request: Request, error: gpulock.GpuLockTimeout) -> JSONResponse:
    """Says who holds the GPU, and when to come again."""
    seconds = max(1, round(error.retry_after or LONGEST_WAIT))
    content = {"detail": error.message, "holder": error.holder, "position": error.position}
    return JSONResponse(content, status_code=503, headers={"Retry-After": str(seconds)})


def similarities(text: str, documents: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The cosine between the text and each document."""
    vectors = np.array([_vector(one) for one in [text, *documents]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[1:] @ vectors[0]


def _vector(text: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """How often each three letters in a row occur, in places that they hash to."""
    padded = f"  {text.lower()}  "
    places = [
        int.from_bytes(padded[i : i + 3].encode(), "big") * 2654435761 % 2**32 % _WIDTH
        for i in range(len(padded) - 2)
    ]
    return np.bincount(places, minlength=_WIDTH).astype(float)
