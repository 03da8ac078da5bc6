"""The most memory that a computation held at one time, on any device, by following the tensors that it makes."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["PeakMemory"]


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context that counts the bytes of tensors made within it, for as long as anything holds them.

    What single operations use inside themselves, and what a library keeps in reserve, is not seen.

    Attributes:
        most: Bytes at the worst moment.

    """

    def __init__(self, device: torch.device) -> None:
        """Count the tensors of one device."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self._now = 0
        self.most = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Any:  # noqa: ANN401 -- whatever the operation gives
        """Run an operation, and count what is new of its results."""
        del types
        made = func(*args, **(kwargs or {}))
        # Views and what is written in place lie where something lay before.
        old = {value.untyped_storage().data_ptr() for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        new = {}
        for value in tree_leaves(made):
            if isinstance(value, Tensor) and value.device.type == self._device.type:
                storage = value.untyped_storage()
                if storage.data_ptr() not in old:
                    new[storage.data_ptr()] = storage
        for storage in new.values():
            self._now += storage.nbytes()
            weakref.finalize(storage, self._forget, storage.nbytes()).atexit = False
        self.most = max(self.most, self._now)
        return made

    def _forget(self, size: int) -> None:
        self._now -= size
