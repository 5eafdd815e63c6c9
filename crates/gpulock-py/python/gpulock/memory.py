"""Frees the GPU memory that Python code holds on to, before a GPU is given back.

Nothing is imported here, and no framework is made to open a GPU that it does not use already.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Hook = TypeVar("_Hook", bound="Callable[[], object]")

_hooks: list[Callable[[], object]] = []

# Their objects free GPU memory when they are collected.
_FRAMEWORKS = (
    "torch",
    "paddle",
    "tensorflow",
    "cupy",
    "mxnet",
    "jax",
    "keras",
    "numba",
    "onnxruntime",
    "pycuda",
    "tensorrt",
)


def on_release(hook: _Hook) -> _Hook:
    """Calls `hook` before each release of a GPU in this process, after the frameworks' caches were
    freed. Can be used as a decorator."""
    _hooks.append(hook)
    return hook


def remove_hook(hook: Callable[[], object]) -> None:
    """Calls `hook` no longer. Nothing happens if it is not one."""
    if hook in _hooks:
        _hooks.remove(hook)


def free() -> list[BaseException]:
    """Collects garbage, then frees the caches of those frameworks that are imported already, then
    calls the hooks. Each does its work whatever happens in the others; what went wrong comes back.

    Where no framework is imported and no hook set, there is nothing to free and nothing is done.
    """
    errors: list[BaseException] = []
    for step in _steps():
        try:
            step()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)
    return errors


def _steps() -> Iterator[Callable[[], object]]:
    if _hooks or any(name in sys.modules for name in _FRAMEWORKS):
        yield gc.collect
    for name, step in _CACHES.items():
        module = sys.modules.get(name)
        if module is not None:
            yield _bound(step, module)
    yield from tuple(_hooks)


def _bound(step: Callable[[Any], object], module: Any) -> Callable[[], object]:
    return lambda: step(module)


def _free_torch(torch: Any) -> None:
    # False too in a child after a fork, which cannot use the parent's GPU memory.
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.ipc_collect()


def _free_paddle(paddle: Any) -> None:
    if paddle.device.is_compiled_with_cuda():
        paddle.device.cuda.empty_cache()


def _free_tensorflow(_tensorflow: Any) -> None:
    # Through `tensorflow.keras` it would be imported now.
    keras = sys.modules.get("keras") or sys.modules.get("tf_keras")
    if keras is not None:
        keras.backend.clear_session()


def _free_cupy(cupy: Any) -> None:
    cupy.get_default_memory_pool().free_all_blocks()
    cupy.get_default_pinned_memory_pool().free_all_blocks()


def _free_mxnet(mxnet: Any) -> None:
    for index in range(mxnet.context.num_gpus()):
        mxnet.gpu(index).empty_cache()


_CACHES: dict[str, Callable[[Any], object]] = {
    "torch": _free_torch,
    "paddle": _free_paddle,
    "tensorflow": _free_tensorflow,
    "cupy": _free_cupy,
    "mxnet": _free_mxnet,
}
