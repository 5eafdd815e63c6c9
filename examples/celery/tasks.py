"""A Celery project whose four services share the GPUs of a machine.

What each of them would do on a GPU is under `services`. Where the leases are is not said here: the
environment does that (`GPULOCK_STORE`), and nothing changes with it.
"""

from __future__ import annotations

import os

import gpulock
from celery import Celery
from celery.utils.log import get_task_logger
from gpulock import gpu_lock
from gpulock.celery import GpuTask
from services import asr, diarization, ocr, sound, tts

logger = get_task_logger(__name__)

app = Celery(
    "studio",
    broker=os.environ.get("CELERY_BROKER", "redis://localhost:6379/1"),
    backend=os.environ.get("CELERY_RESULTS", "redis://localhost:6379/2"),
)
app.conf.update(
    broker_connection_retry_on_startup=True,
    # A task whose process is killed runs again. Twice at the same time it never does.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_time_limit=600,
)


@app.task
@gpu_lock(gpus=1, priority="high")
def synthesise(text: str, path: str, pitch: float = 110.0) -> str:
    """Says a text into a file. Somebody listens, so it goes before the others."""
    sound.save(path, tts.speak(text, pitch))
    return path


def uses_cuda(device: str) -> bool:
    """Whether a call needs a GPU at all."""
    return device == "cuda"


@app.task
@gpu_lock(gpus=1, when=uses_cuda)
def transcribe(path: str, device: str = "cuda") -> str:
    """Writes down what is said in a file. On the CPU it takes no lock and waits for nobody."""
    logger.info("transcribing %s on %s", path, device)
    return asr.transcribe(sound.load(path))


@app.task
@gpu_lock(gpus=1)
def diarize(path: str) -> list[diarization.Turn]:
    """Says who speaks when."""
    samples = sound.load(path)
    gpulock.current().progress(50, f"{len(samples) / sound.RATE:.0f}s of sound")
    return diarization.diarize(samples)


@app.task(base=GpuTask, gpu_lock={"gpus": 1, "priority": "low"})
def read_page(path: str) -> str:
    """Reads a page. The same as the decorator, by a base class."""
    return ocr.read(ocr.load(path))
