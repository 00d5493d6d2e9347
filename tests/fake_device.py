"""A device "fake:0" that computes on the CPU and refuses what CUDA refuses, so that a forgotten `.to(device)` is found.

Its tensors cannot be mixed with those of the CPU, cannot become NumPy arrays, and cannot be drawn from a generator of
the CPU. It must be imported before the first backward pass of a process: torch counts its devices there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from lightning_fabric.accelerators import ACCELERATOR_REGISTRY, Accelerator
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from unmask.inspection import torch_backend
from unmask.training import trainer

NAME = "fake"
_setup_privateuseone_for_python_backend(NAME)  # torch's own way to a device that is written in Python
DEVICE = torch.device(NAME, 0)

aten = torch.ops.aten
MIXING = {aten.copy_.default, aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
"""Operators that take tensors of two devices on CUDA as well: copies, and indices of the CPU."""
RESIZING = {aten.resize_.default, aten.set_.source_Tensor}


class FakeDeviceTensor(Tensor):
    """A tensor that says it is on the fake device; its values lie in `inner`, on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> FakeDeviceTensor:
        made: FakeDeviceTensor = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """With its counterpart it lets `Module.to` keep the parameters that an optimiser holds."""
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> FakeDeviceTensor:
        return FakeDeviceTensor(inner["inner"])

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.__reduce_ex__(protocol)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"FakeDeviceTensor({self.inner})"

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __getitem__(self, index: Any) -> Tensor:
        """Lists as indices go to the device by themselves; torch does it for its own devices only."""
        parts = index if isinstance(index, tuple) else (index,)
        whole = tuple(torch.tensor(part, dtype=torch.long) if isinstance(part, list) else part for part in parts)
        return super().__getitem__(whole if isinstance(index, tuple) else whole[0])

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operator, args, kwargs or {})


def _run(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator on the CPU if CUDA would run it; the result is on the device that it would be on."""
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    fakes = [one for one in tensors if isinstance(one, FakeDeviceTensor)]
    _check_mix(operator, fakes, [one for one in tensors if not isinstance(one, FakeDeviceTensor)])
    to_fake = bool(fakes) if kwargs.get("device") is None else torch.device(kwargs["device"]).type == NAME
    if to_fake and kwargs.get("generator") is not None:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
    inner_args, inner_kwargs = tree_map(_inner, args), tree_map(_inner, kwargs)
    inner_kwargs.pop("pin_memory", None)
    found = operator(*inner_args, **inner_kwargs)
    if operator is aten.copy_.default:
        return args[0]
    if not to_fake:
        return found
    is_inference = torch.is_inference_mode_enabled() and not (operator.is_view and not fakes[0].is_inference())
    with torch.inference_mode(mode=is_inference):  # a view of an ordinary tensor is an ordinary tensor everywhere
        wrapped = tree_map(lambda one: FakeDeviceTensor(one) if isinstance(one, Tensor) else one, found)
    return return_and_correct_aliasing(operator, args, kwargs, wrapped) if fakes else wrapped


def _check_mix(operator: Any, fakes: list[Tensor], others: list[Tensor]) -> None:
    is_number = torch.Tag.pointwise in operator.tags and all(one.dim() == 0 for one in others)
    if fakes and others and not is_number and operator not in MIXING:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {operator} got {DEVICE} and cpu")
    if operator in RESIZING:
        raise RuntimeError(f"{operator} changes a tensor in a way that the fake device does not follow")


def _inner(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.inner if isinstance(value, FakeDeviceTensor) else value


_library = torch.library.Library("_", "IMPL")
_library.fallback(lambda operator, *args, **kwargs: _run(operator, args, kwargs), "PrivateUse1")


class FakeAccelerator(Accelerator):
    """The device as Fabric knows devices."""

    def setup_device(self, device: torch.device) -> None:
        """Nothing has to be done."""

    def teardown(self) -> None:
        """Nothing has to be done."""

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [DEVICE] * int(devices)

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return NAME


@pytest.fixture
def fake_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Every fit runs on the fake device, and every model that is loaded without naming a device."""
    for module in (trainer, torch_backend):
        monkeypatch.setattr(module, "resolve_device", _always(DEVICE))
    ACCELERATOR_REGISTRY.register(NAME, FakeAccelerator)
    yield DEVICE
    ACCELERATOR_REGISTRY.pop(NAME)


def _always(device: torch.device) -> Callable[[str], torch.device]:
    return lambda name: device
