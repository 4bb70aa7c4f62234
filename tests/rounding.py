"""A pytest plugin (`-p rounding`): every CPU there may be. Matrix products and convolutions are rounded by their shape.

CPUs and libraries choose their kernels by the shape of a product, and each adds in an order of its own. Here the last
bit of every value of a product depends on the shapes and on the value's place, as it may somewhere: equal calls still
give equal bits, and differently shaped ones do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "convolution", "convolution_backward", "linear", "mv", "dot", "addmv")
PRODUCTS += (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_attention_math",
    "cdist",
    "_cdist_forward",
)

ELSEWHERE = ("test_threads_share_a_field", "test_two_processes", "test_a_terminated_process", "test_a_signal_before")
"""Tests that compare with other threads or processes, which this one does not reach."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave those out."""
    for item in items:
        if item.name.startswith(ELSEWHERE):
            item.add_marker(pytest.mark.skip(reason="compares with threads or processes that are not rounded"))


class Rounding(TorchDispatchMode):
    """The last bit of a product depends on its shapes."""

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        found = function(*arguments, **(options or {}))
        if function.overloadpacket.__name__.split(".")[-1] not in PRODUCTS:
            return found
        shapes = [tuple(x.shape) for x in arguments if isinstance(x, torch.Tensor)]
        for x in found if isinstance(found, tuple) else (found,):
            if isinstance(x, torch.Tensor) and x.device.type == "cpu" and x.is_floating_point():
                place = torch.arange(x.numel()).reshape(x.shape) * 7919 + sum(hash(shape) % 9973 for shape in shapes)
                x.add_(x * torch.finfo(x.dtype).eps * (place % 3 - 1))
        return found


@pytest.fixture(autouse=True)
def _rounding() -> Iterator[None]:
    with Rounding():
        yield
