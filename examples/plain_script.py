"""A plain script that trains on a GPU: no framework, no server.

    python plain_script.py model.json

It tells how far it is, saves what it has and stops in an orderly way when somebody asks it to
(`gpulock release gpu_lock:0 --ask --reason maintenance`), and goes on from there the next time.
"""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path

import gpulock

STEPS = 400
"""How often all examples are looked at."""


def main(file: Path) -> int:
    """Trains under a lease; the exit code is 0 when the model is finished, 75 when it is not."""
    model = json.loads(file.read_text()) if file.exists() else {"step": 0, "weights": [0.0] * 3}
    try:
        with gpulock.lease(gpus=1, task="train", max_wait_time=300) as held:
            print(f"training on GPU {held.visible_devices} after {held.waited:.1f}s")
            train(model, held)
    except gpulock.GpuLockTimeout as error:
        print(error, file=sys.stderr)
        return 75
    finally:
        file.write_text(json.dumps(model))
    done = model["step"] == STEPS
    print(
        f"{'finished' if done else 'stopped'} at step {model['step']}: {accuracy(model):.0%} right"
    )
    return 0 if done else 75


def train(model: dict, held: gpulock.Lease) -> None:
    """Logistic regression by gradient descent, until it is done or somebody wants the GPU."""
    points = examples()
    while model["step"] < STEPS and not held.stop_requested:
        held.check()  # raises LeaseLost if the GPU may be somebody else's by now
        slope = [0.0, 0.0, 0.0]
        for x, label in points:
            error = chance(model["weights"], x) - label
            slope = [s + error * value for s, value in zip(slope, x, strict=True)]
        model["weights"] = [
            w - 0.5 * s / len(points) for w, s in zip(model["weights"], slope, strict=True)
        ]
        model["step"] += 1
        if model["step"] % 50 == 0:
            held.progress(100 * model["step"] / STEPS, f"step {model['step']} of {STEPS}")


def examples() -> list[tuple[list[float], int]]:
    """Two clouds of points: (1, x, y) and to which of them it belongs."""
    dice = random.Random(7)
    return [
        ([1.0, dice.gauss(2 * label, 1.0), dice.gauss(-2 * label, 1.0)], label)
        for label in [0, 1] * 200
    ]


def chance(weights: list[float], x: list[float]) -> float:
    """How probable it is that a point belongs to the second cloud."""
    return 1 / (1 + math.exp(-sum(w * value for w, value in zip(weights, x, strict=True))))


def accuracy(model: dict) -> float:
    """The share of points that the model puts where they belong."""
    points = examples()
    return sum((chance(model["weights"], x) > 0.5) == bool(label) for x, label in points) / len(
        points
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "model.json")))
