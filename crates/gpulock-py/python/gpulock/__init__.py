"""Lends out the GPUs of a host or a cluster: one task at a time on each, in a fair order.

    from gpulock import gpu_lock, lease

    @gpu_lock()                                # GPU 0, everything else from config.yml
    def detect(video): ...

    with lease(gpus=1, task="ocr") as held:    # any one GPU; also: async with
        held.progress(45)

Settings come from the environment (`GPULOCK_...`) and `config.yml`. Errors are `GpuLockError` and
its kinds. What happens is logged by the logger "gpulock".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gpulock._gpulock import __version__
from gpulock._progress import progress
from gpulock.client import Client
from gpulock.decorator import gpu_lock
from gpulock.errors import (
    ConfigError,
    DuplicateTask,
    GpuLockError,
    GpuLockTimeout,
    LeaseLost,
    NotOwner,
    StopRequested,
    StoreUnavailable,
)
from gpulock.lease import Lease, current, lease
from gpulock.memory import on_release

if TYPE_CHECKING:
    from gpulock._options import GpuLockOptions as GpuLockOptions
    from gpulock._options import LeaseOptions as LeaseOptions

__all__ = [
    "Client",
    "ConfigError",
    "DuplicateTask",
    "GpuLockError",
    "GpuLockTimeout",
    "Lease",
    "LeaseLost",
    "NotOwner",
    "StopRequested",
    "StoreUnavailable",
    "__version__",
    "current",
    "gpu_lock",
    "lease",
    "on_release",
    "progress",
]

logging.getLogger("gpulock").addHandler(logging.NullHandler())
