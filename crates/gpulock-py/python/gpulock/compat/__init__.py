"""The names of the older system, with its signatures: for moving, not for new code.

    from gpulock.compat import gpu_lock, lock_manager

Behind them are the leases of gpulock. Where the older system counted or remembered something in one
process, this asks the store, so every process gets the same answer. `docs/guides/migrate.md` says
what each name is called in new code, and how older and new workers share a GPU meanwhile.
"""

from gpulock.compat._alerts import record_critical_failure, send_alert
from gpulock.compat._decorator import gpu_lock
from gpulock.compat._heartbeats import (
    TaskHeartbeatManager,
    heartbeat_manager,
    start_task_heartbeat,
    stop_task_heartbeat,
    update_task_heartbeat,
)
from gpulock.compat._manager import (
    ExceptionStats,
    SmartGpuLockManager,
    get_gpu_lock_config,
    get_gpu_lock_health_summary,
    get_gpu_lock_status,
    lock_manager,
    release_gpu_lock,
)

__all__ = [
    "ExceptionStats",
    "SmartGpuLockManager",
    "TaskHeartbeatManager",
    "get_gpu_lock_config",
    "get_gpu_lock_health_summary",
    "get_gpu_lock_status",
    "gpu_lock",
    "heartbeat_manager",
    "lock_manager",
    "record_critical_failure",
    "release_gpu_lock",
    "send_alert",
    "start_task_heartbeat",
    "stop_task_heartbeat",
    "update_task_heartbeat",
]
