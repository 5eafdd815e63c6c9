"""Sends work to all four services at once, and then says who held which GPU when.

celery -A tasks worker --concurrency 4      # in one terminal, in this folder
python run.py                               # in another
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import gpulock
import numpy as np
import tasks
from celery import chain
from celery.result import AsyncResult
from services import ocr, sound, tts


def main() -> None:
    """Prepares files, sends tasks, prints results."""
    began = time.time()
    with TemporaryDirectory() as folder:
        jobs = send(Path(folder))
        for name, job in jobs.items():
            print(f"{name:20} {job.get(timeout=60)}")
    print_holders(began)


def send(folder: Path) -> dict[str, AsyncResult]:
    """What is to be done, by name."""
    page, talk = str(folder / "page.pgm"), str(folder / "talk.wav")
    ocr.save(page, ocr.render("ONE TASK EACH TIME", noise=0.1))
    sound.save(talk, conversation())
    text = "the lock goes on when work ends"
    said_and_heard = chain(tasks.synthesise.s(text, str(folder / "said.wav")), tasks.transcribe.s())
    return {
        "said and heard": said_and_heard.delay(),
        "heard on the CPU": tasks.transcribe.delay(talk, device="cpu"),
        "who speaks": tasks.diarize.delay(talk),
        "read": tasks.read_page.delay(page),
    }


def conversation() -> sound.Samples:
    """Two voices."""
    turns = [("the lock goes on", 110), ("when work ends", 210), ("one task each time", 110)]
    return np.concatenate([tts.speak(text, pitch) for text, pitch in turns])


def print_holders(since: float) -> None:
    """The leases that ended since then, the first one first."""
    print(f"\n{'GPU':4} {'FROM':>8} {'UNTIL':>8}  TASK")
    for event in reversed(gpulock.Client().history()):
        until = event["at"] / 1e6 - since
        if event["event"] == "ended" and until > 0:
            begin = until - event["held_micros"] / 1e6
            gpus = ",".join(map(str, event["gpus"]))
            print(f"{gpus:4} {begin:7.3f}s {until:7.3f}s  {event['task']}")


if __name__ == "__main__":
    main()
