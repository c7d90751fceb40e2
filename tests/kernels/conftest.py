"""Kernels of the tests themselves: short texts in `.cu` files beside them."""

from pathlib import Path

import pytest

from gpunet.backend import emulator
from gpunet.backend.kernels import Kernel

SCHEDULES = [("forward", 0), ("reverse", 0), ("random", 1), ("random", 2)]


@pytest.fixture
def kernel():
    """Compiles a kernel of a `.cu` file beside this one, or of a text."""

    def compile_kernel(source, name, template=()):
        if source.endswith(".cu"):
            text = Path(__file__).with_name(source).read_text()
            return Kernel(text, name, template, file=source)
        return Kernel(source, name, template, file="inline.cu")

    return compile_kernel


@pytest.fixture(params=SCHEDULES, ids=[f"{name}{seed or ''}" for name, seed in SCHEDULES])
def any_order(request):
    """Runs the test once in every order of threads and blocks."""
    with emulator.schedule(*request.param):
        yield request.param[0]
