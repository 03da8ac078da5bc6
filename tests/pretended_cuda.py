"""A CUDA device for machines without one: it says where each tensor lies, and computes on the CPU.

    with pretended_cuda():
        network.to("cuda")(batch)          # RuntimeError: the batch is on the CPU

A tensor moved to ``cuda`` is a wrapper that reports the device ``cuda:0`` around a tensor on the CPU. Operations on
tensors of two devices raise as CUDA's do, and results are those of the CPU, so that code which copies back to the host
runs to its end. What a GPU's own kernels compute, and backward passes, cannot be tested so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda:0")
_BETWEEN_DEVICES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}


class OnCuda(torch.Tensor):
    """A tensor that says it is on ``cuda:0``; `held` is where its numbers are."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnCuda":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=CUDA,
        )
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"OnCuda({self.held!r})"

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Devices(TorchDispatchMode):
    """Sends every operation through the check, also those that only make a tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Made(TorchFunctionMode):
    """Makes tensors of given numbers on the CPU first: torch would not ask the mode above about these."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


@contextmanager
def pretended_cuda() -> Iterator[None]:
    """Have the device ``cuda`` for a while."""
    torch._C._ensureCUDADeviceGuardSet()
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # so that `Module.to` replaces its parameters
    try:
        with (
            mock.patch("torch.cuda._lazy_init"),
            mock.patch("torch.cuda.Event"),
            mock.patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor),
            torch.backends.cudnn.flags(enabled=False),  # its operations have no counterpart on the CPU
            _Devices(),
            _Made(),
        ):
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    on_cuda = any(isinstance(tensor, OnCuda) for tensor in tensors)
    # CUDA operations take numbers without dimensions from the host.
    strays = [tensor for tensor in tensors if not isinstance(tensor, OnCuda) and tensor.dim()]
    if on_cuda and strays and func not in _BETWEEN_DEVICES:
        where = f"{CUDA} and {strays[0].device} (shape {tuple(strays[0].shape)})"
        raise RuntimeError(f"{func}: tensors on two devices, {where}")
    if kwargs.get("device") is not None:
        on_cuda = torch.device(kwargs["device"]).type == "cuda"
        kwargs = {**kwargs, "device": torch.device("cpu")} if on_cuda else kwargs
    if func is torch.ops.aten.copy_.default:
        on_cuda = isinstance(args[0], OnCuda)
    made = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    given = {id(_held(tensor)): tensor for tensor in tensors}

    def placed(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) in given:  # an operation in place gives back what it was given
            return given[id(value)]
        return OnCuda(value) if on_cuda else value

    return tree_map(placed, made)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnCuda) else value
