"""CUDA's errors name the kernel and say whether to go on; out of memory says what holds it."""

import contextlib
import sys

import numpy as np
import pytest

import gpunet
from gpunet.backend import faults, memory, rawmodule
from gpunet.backend.kernels import Kernel
from gpunet.core.autograd import Node, Tape
from gpunet.errors import DeviceMemoryError, GpunetError, KernelError
from tests.kernels import cupy_double

FILL = "__global__ void fill(float* out, float value) { out[threadIdx.x] = value; }"


@pytest.fixture
def cupy(monkeypatch):
    """A stand-in for CuPy: see `cupy_double`."""
    fake = cupy_double.make()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(rawmodule, "include_dirs", lambda: ("/cuda/include",))
    return fake


@pytest.fixture
def place(cupy):
    """A CUDA device on which the stand-in works."""

    class Place:
        xp, index, kind = cupy, 0, "cuda"
        activate = staticmethod(contextlib.nullcontext)

        def __str__(self):
            return "cuda:0"

    return Place()


def launch(cupy, shape=4):
    Kernel(FILL, "fill")(grid=1, block=4, args=(cupy.ndarray(np.zeros(shape, "f4")), np.float32(1)))


@pytest.mark.parametrize("kind", ["runtime", "driver"])
def test_an_error_at_launch_names_the_kernel_and_its_arguments(cupy, kind):
    error = {"runtime": cupy_double.CudaError, "driver": cupy.cuda.driver.CUDADriverError}[kind]
    cupy.fails = error(1)
    with pytest.raises(KernelError, match=r"`fill`: CUDA error 1. .*\(4,\) float32, 1.0") as caught:
        launch(cupy)
    assert "The process can go on" in str(caught.value)
    cupy.fails = None
    launch(cupy)
    assert len(cupy.calls) == 1


def test_a_lost_context_names_the_last_launches_and_the_way_out(cupy):
    launch(cupy, (2, 2))
    cupy.fails = cupy_double.CudaError(700)
    with pytest.raises(KernelError, match="copy to the host: CUDA error 700") as caught:
        memory.to_numpy(cupy.ndarray(np.zeros(3, "f4")))
    message = str(caught.value)
    assert "context of this process is lost" in message
    assert "`fill` grid=(1, 1, 1) block=(4, 1, 1) shared=0 args=(2, 2), 1.0" in message
    assert "sanitize" in message and "can go on" not in message


def test_few_launches_are_remembered_and_no_arrays(cupy):
    for n in range(1, 30):
        launch(cupy, n)
    assert len(faults._recent) == 8
    assert faults._recent[-1][-1] == ((29,), 1.0)


def failing(cupy, times, error=None):
    """A rule that fails the first `times` times."""
    calls = []

    def rule(x, *, axis):
        calls.append(axis)
        if len(calls) <= times:
            raise error or cupy.cuda.memory.OutOfMemoryError("allocating 5 bytes")
        return "done"

    return rule, calls


def test_out_of_memory_frees_the_pool_and_tries_once_more(cupy, place):
    x = cupy.ndarray(np.zeros((2, 3), "f4"))
    rule, calls = failing(cupy, 1)
    assert faults.on_device(rule, place, "softmax")(x, axis=-1) == "done"
    assert (cupy.pool.freed, calls) == (1, [-1, -1])
    rule, calls = failing(cupy, 0)
    assert faults.on_device(rule, place, "softmax")(x, axis=-1) == "done"
    assert cupy.pool.freed == 1
    rule, calls = failing(cupy, 2)
    with pytest.raises(DeviceMemoryError, match=r"^softmax: device cuda:0 is out of memory: all"):
        faults.on_device(rule, place, "softmax")(x, axis=-1)
    assert (cupy.pool.freed, len(calls)) == (2, 2)


def test_other_errors_of_cuda_name_the_op_and_are_not_tried_again(cupy, place):
    x = cupy.ndarray(np.zeros((2, 3), "f4"))
    rule, calls = failing(cupy, 2, cupy_double.CudaError(1))
    with pytest.raises(KernelError, match=r"softmax: CUDA error 1. Received: \(2, 3\) float32"):
        faults.on_device(rule, place, "softmax")(x, axis=-1)
    assert len(calls) == 1 and cupy.pool.freed == 0
    rule, calls = failing(cupy, 2, ValueError("not CUDA's"))
    with pytest.raises(ValueError, match="not CUDA's"):
        faults.on_device(rule, place, "softmax")(x, axis=-1)


def test_the_report_tells_who_holds_the_memory(cupy, place):
    def on_gpu(n, device=0):
        return cupy.ndarray(np.zeros(n, "f4"), device)

    weight = gpunet.Variable(np.zeros(3, "f4"), name="kernel")
    weight._data = on_gpu(1000)
    with gpunet.name_scope("adam"):
        slot = gpunet.Variable(np.zeros(3, "f4"), trainable=False, name="momentum")
    slot._data = on_gpu(2000)
    gradient = gpunet.Tensor(on_gpu(1000), place)
    twice = gpunet.Tensor(cupy.ndarray(gradient.data.array), place)  # the same memory again
    other = gpunet.Tensor(on_gpu(10), place)
    elsewhere = gpunet.Tensor(on_gpu(5000, device=1), place)
    node = Node(Tape(), place, [], kept=[on_gpu(300), [on_gpu(7), weight._data], (2, 3), None])
    found = faults.holdings(place)
    assert found == {
        "parameters": 4000,
        "state of adam": 8000,
        "activations kept for the backward pass": 4 * 307,
        "gradients (tensors of a parameter's shape)": 4000,
        "other tensors": 40,
    }
    rule, _ = failing(cupy, 2)
    with pytest.raises(DeviceMemoryError) as caught:
        faults.on_device(rule, place, "matmul")(other.data, axis=0)
    assert isinstance(caught.value, MemoryError) and isinstance(caught.value, GpunetError)
    text = " ".join(str(caught.value).split())
    for line in [
        "Received: (10,) float32",
        "Of 16 MiB, 1 MiB are free",
        "state of adam 7.812 KiB",
        "parameters 3.906 KiB",
        "other arrays 2.984 MiB",
        "pool, not in use 1 MiB",
        "outside of CuPy's pool 11 MiB",
    ]:
        assert line in text
    del twice, elsewhere, node


def test_a_variable_in_the_making_does_not_spoil_the_report(cupy, place):
    unfinished = gpunet.Variable.__new__(gpunet.Variable)
    assert faults.holdings(place) == {}
    del unfinished


def test_every_op_on_a_gpu_runs_under_this_care(cupy, place):
    from gpunet.core.primitive import Primitive

    op = Primitive("careful(x) -> y", {})
    rule, calls = failing(cupy, 1)
    op.cuda(lambda x: rule(x, axis=0))
    assert op._bind(place)(cupy.ndarray(np.zeros(2))) == "done"
    assert cupy.pool.freed == 1 and len(calls) == 2
