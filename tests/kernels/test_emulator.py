"""The emulator: threads, barriers, shared memory, orders, and what it reports."""

import functools
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from gpunet.backend import emulator
from gpunet.backend.emulator import loader, schedules, toolchain
from gpunet.dtypes import BFLOAT16
from gpunet.errors import ArgumentError, KernelError

ASSEMBLY_RUNTIME = loader._runtime
LINES = Path(__file__).with_name("blocks.cu").read_text().splitlines()


def line_of_barrier(kernel_name):
    """The line of blocks.cu with the first barrier after the name of a kernel."""
    start = next(i for i, line in enumerate(LINES) if f" {kernel_name}(" in line)
    return next(i for i, line in enumerate(LINES, 1) if i > start and "__syncthreads" in line)


@pytest.mark.parametrize(
    ("grid", "block"), [((5,), (7,)), ((3, 2), (4, 3)), ((2, 3, 4), (4, 2, 3)), ((1,), (1024,))]
)
def test_each_thread_knows_its_place(kernel, any_order, grid, block):
    counts = [(*shape, 1, 1)[:3] for shape in (grid, block)]
    out = emulator.poison(np.empty((np.prod(counts), 6), np.int32))
    kernel("blocks.cu", "coordinates")(grid=grid, block=block, args=(out,))
    extent = [*counts[0][::-1], *counts[1][::-1]]
    places = np.indices(extent).reshape(6, -1).T  # z, y, x of the block, then of the thread
    np.testing.assert_array_equal(out, places[:, [2, 1, 0, 5, 4, 3]])


@pytest.mark.parametrize("block", [1, 2, 31, 32, 33, 256])
def test_barrier(kernel, any_order, block):
    x, y = np.arange(3 * block, dtype="f4"), np.empty(3 * block, "f4")
    kernel("blocks.cu", "rotate_left", (True,))(grid=3, block=block, args=(x, y))
    np.testing.assert_array_equal(y.reshape(3, -1), np.roll(x.reshape(3, -1), -1, axis=1))


def test_a_missing_barrier_shows_in_some_order(kernel):
    x, right = np.arange(64, dtype="f4"), np.roll(np.arange(64), -1)
    agrees = {}
    for order in ("forward", "reverse", "random"):
        y = np.empty(64, "f4")
        with emulator.schedule(order):
            kernel("blocks.cu", "rotate_left", (False,))(grid=1, block=64, args=(x, y))
        agrees[order] = np.array_equal(y, right)
    assert not all(agrees.values()), agrees


@pytest.mark.parametrize("dtype", ["f4", "f2", "i4"])
def test_plain_shared_memory(kernel, any_order, dtype):
    cuda = {"f4": "float", "f2": "__half", "i4": "int"}[dtype]
    x, y = np.arange(128, dtype=dtype), np.empty(128, dtype)
    kernel("blocks.cu", "rotate_plain", (cuda,))(grid=2, block=64, args=(x, y))
    np.testing.assert_array_equal(y.reshape(2, -1), np.roll(x.reshape(2, -1), -1, axis=1))


@pytest.mark.parametrize("block", [1, 100, 1024])
def test_many_barriers(kernel, any_order, block):
    x, y = np.arange(block, dtype="i4") % 7, np.empty(block, "i4")
    kernel("blocks.cu", "prefix_sum")(grid=1, block=block, args=(x, y))
    np.testing.assert_array_equal(y, np.cumsum(x))


def test_shared_memory_is_poisoned_before_every_block(kernel):
    out = np.zeros((3, 12), "f4")
    kernel("blocks.cu", "read_unwritten", ("float",))(grid=3, block=4, args=(out,), shared=16)
    assert np.isnan(out).all()
    out = np.zeros((3, 12), "i8")
    kernel("blocks.cu", "read_unwritten", ("long long",))(grid=3, block=4, args=(out,), shared=32)
    assert (out == -1).all()


def test_shared_memory_is_poisoned_in_every_kernel_that_has_it(kernel):
    """Also when its library is already loaded, and in a launch with other dynamic memory."""
    for bytes_ in (16, 64, 16):
        out = np.zeros((3, 12), "f4")
        run = kernel("blocks.cu", "read_unwritten", ("float",))
        run(grid=3, block=4, args=(out,), shared=bytes_)
        assert np.isnan(out).all()


@pytest.mark.parametrize("kib", [1, 48, 96, 227])
def test_dynamic_shared_memory_of_any_size(kernel, any_order, kib):
    text = """#include "common.cuh"
    __global__ void turn(const int* x, int* y, int n) {
      GPUNET_SHARED(int, tile);
      for (int i = threadIdx.x; i < n; i += blockDim.x) tile[i] = x[i];
      __syncthreads();
      for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = tile[n - 1 - i];
    }"""
    n = kib * 256
    x, y = np.arange(n, dtype="i4"), np.empty(n, "i4")
    kernel(text, "turn")(grid=1, block=128, args=(x, y, np.int32(n)), shared=4 * n)
    np.testing.assert_array_equal(y, x[::-1])


def test_more_shared_memory_than_a_block_has(kernel):
    text = """#include "common.cuh"
    __global__ void big(float* x) {
      SHARED_ARRAY(float, a, 64);
      GPUNET_SHARED(float, b);
      x[0] = a[0] + b[0];
    }"""
    run, x = kernel(text, "big"), np.zeros(1, "f4")
    run(grid=1, block=1, args=(x,), shared=227 * 1024 - 256)
    for size in (227 * 1024 - 255, 227 * 1024 + 1):
        with pytest.raises(KernelError, match=r"227 KiB|232448"):
            run(grid=1, block=1, args=(x,), shared=size)
    assert np.isnan(x[0])


def test_dynamic_shared_memory_must_be_asked_for(kernel):
    with pytest.raises(KernelError, match="launched with shared=0"):
        kernel("blocks.cu", "read_unwritten", ("float",))(
            grid=1, block=4, args=(np.zeros(12, "f4"),)
        )


def test_dynamic_shared_memory_as_cuda_spells_it(kernel):
    text = """#include <cuda_fp16.h>
    template <typename T> __global__ void reverse(const T* x, T* y) {
      extern __shared__ __align__(16) unsigned char memory[];
      T* tile = reinterpret_cast<T*>(memory);
      tile[threadIdx.x] = x[threadIdx.x];
      __syncthreads();
      y[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
    }"""
    x, y = np.arange(50, dtype="f2"), np.empty(50, "f2")
    kernel(text, "reverse", ("__half",))(grid=1, block=50, args=(x, y), shared=100)
    np.testing.assert_array_equal(y, x[::-1])


def test_too_much_static_shared_memory(kernel):
    text = """#include "common.cuh"
    __global__ void big(float* x) {
      SHARED_ARRAY(float, a, 10000);
      SHARED_ARRAY(float, b, 10000);
      x[0] = a[0] + b[0];
    }"""
    with pytest.raises(KernelError, match="48 KiB"):
        kernel(text, "big")(grid=1, block=1, args=(np.zeros(1, "f4"),))


def test_barriers_that_count(kernel, any_order):
    x, out = np.arange(100, dtype="i4") % 7, np.empty((4, 100), "i4")
    kernel("blocks.cu", "count_and_or")(grid=1, block=100, args=(x, out))
    expected = [(x > 2).sum(), False, True, (x > 4).sum()]
    np.testing.assert_array_equal(out, np.repeat(expected, 100).reshape(4, 100))
    kernel("blocks.cu", "count_and_or")(grid=1, block=100, args=(x + 3, out))
    np.testing.assert_array_equal(out[:3], np.repeat([100, True, True], 100).reshape(3, 100))


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_a_thread_that_left_before_the_barrier(kernel, order):
    run = kernel("blocks.cu", "leave_early")
    with emulator.schedule(order), pytest.raises(KernelError) as error:
        run(grid=(2, 2), block=64, args=(np.zeros(64, "f4"),))
    message = str(error.value)
    line = line_of_barrier("leave_early")
    assert f"48 threads at __syncthreads (blocks.cu line {line}), 16 threads exited" in message
    assert message.startswith("`leave_early`, block (")
    if order != "random":
        assert {"forward": "block (0, 0, 0)", "reverse": "block (1, 1, 0)"}[order] in message


def test_threads_at_different_barriers(kernel, any_order):
    with pytest.raises(KernelError) as error:
        kernel("blocks.cu", "part_ways")(grid=1, block=64, args=(np.zeros(64, "f4"),))
    first = line_of_barrier("part_ways")
    assert f"40 threads at __syncthreads (blocks.cu line {first})" in str(error.value)
    assert f"24 threads at __syncthreads (blocks.cu line {first + 3})" in str(error.value)


def test_runs_well_after_a_failure(kernel):
    broken, sound = kernel("blocks.cu", "leave_early"), kernel("blocks.cu", "prefix_sum")
    x, y = np.ones(512, "i4"), np.empty(512, "i4")
    for _ in range(3):
        with pytest.raises(KernelError):
            broken(grid=1, block=64, args=(np.zeros(64, "f4"),))
        sound(grid=1, block=512, args=(x, y))
        np.testing.assert_array_equal(y, np.arange(1, 513))


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (0, r"thread \(5, 0, 0\): .*blocks.cu line \d+: assertion `x\[0\] == 7` failed"),
        (1, r"thread \(5, 0, 0\): __trap"),
        (2, r"thread \(0, 0, 0\): misaligned access to 16 bytes"),
    ],
)
def test_a_thread_that_fails(kernel, which, message):
    with pytest.raises(KernelError, match=message):
        kernel("blocks.cu", "fail_in_thread")(
            grid=1, block=32, args=(np.zeros(8, "i4"), np.int32(which))
        )


def test_sleeping_lets_others_go_on(kernel, any_order):
    flag = np.zeros(1, "i4")
    kernel("blocks.cu", "sleep_for_flag")(grid=1, block=64, args=(flag,))
    assert flag[0] == 2


@pytest.mark.parametrize("wait", ["__nanosleep(20);", ""])
def test_a_lock_that_threads_wait_for(kernel, any_order, wait):
    text = f"""__global__ void count(int* lock, int* y) {{
      while (atomicCAS(lock, 0, 1) != 0) {{ {wait} }}
      *y += 1;
      __syncwarp(1u << threadIdx.x % 32);  // another one may come here meanwhile
      atomicExch(lock, 0);
    }}"""
    lock, y = np.zeros(1, "i4"), np.zeros(1, "i4")
    kernel(text, "count")(grid=2, block=40, args=(lock, y))
    assert y[0] == 80


@pytest.mark.parametrize("wait", ["__nanosleep(20);", ""])
def test_threads_that_wait_for_what_never_comes(kernel, wait):
    text = f"""__global__ void wait(int* flag) {{
      while (atomicAdd(flag, 0) == 0) {{ {wait} }}
    }}"""
    where = r"__nanosleep \(inline.cu line 2\)" if wait else "an atomic"
    with pytest.raises(KernelError, match=rf"{where}.*the threads of this block only wait"):
        kernel(text, "wait")(grid=1, block=2, args=(np.zeros(1, "i4"),))


def test_misaligned_atomic(kernel):
    text = "__global__ void add(char* x) { atomicAdd(reinterpret_cast<float*>(x + 2), 1.0f); }"
    with pytest.raises(KernelError, match="misaligned atomic access to 4 bytes"):
        kernel(text, "add")(grid=1, block=1, args=(np.zeros(8, "i1"),))


def test_printf(kernel, capfd):
    kernel("blocks.cu", "greet")(grid=1, block=32, args=(np.full(1, 42, "i4"),))
    assert capfd.readouterr().out == "thread 3 has 42\n"


def test_parked_threads_keep_their_stacks_and_registers(kernel, any_order):
    out = np.empty(512, "i4")
    kernel("blocks.cu", "deep")(grid=2, block=512, args=(out, np.int32(100)))
    assert (out == 100).all()
    x, y = np.random.default_rng(0).normal(size=256), np.empty(256)
    kernel("blocks.cu", "keep_registers")(grid=1, block=256, args=(x, y))
    np.testing.assert_allclose(y, 59 * x, rtol=1e-14)


def test_constants_and_globals(kernel):
    out, count, forward = np.empty(8, "f4"), np.zeros(1, "i4"), np.zeros(8, bool)
    run = kernel("blocks.cu", "globals")
    counts = []
    for _ in range(3):
        run(grid=1, block=8, args=(out, count, forward))
        counts.append(count[0])
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2]
    np.testing.assert_array_equal(out, [1, 10, 100, 1000] * 2)
    assert forward.all()


def test_fibers_of_processors_without_an_assembly_switch(kernel, any_order, monkeypatch):
    monkeypatch.setattr(loader, "_runtime", ucontext_runtime)
    sound, broken = kernel("blocks.cu", "prefix_sum"), kernel("blocks.cu", "part_ways")
    x, y = np.arange(200, dtype="i4"), np.empty(200, "i4")
    for _ in range(2):
        sound(grid=3, block=200, args=(x, y))
        np.testing.assert_array_equal(y, np.cumsum(x))
        with pytest.raises(KernelError, match="40 threads at __syncthreads"):
            broken(grid=1, block=64, args=(np.zeros(64, "f4"),))


@functools.cache
def ucontext_runtime():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toolchain, "FLAGS", (*toolchain.FLAGS, "-DGPUNET_UCONTEXT"))
        return ASSEMBLY_RUNTIME.__wrapped__()


def test_launches_from_many_os_threads(kernel):
    run = kernel("blocks.cu", "prefix_sum")
    plain = kernel("blocks.cu", "rotate_plain", ("float",))
    wrong = []

    def work(size):
        x, y = np.ones(size, "i4"), np.empty(size, "i4")
        a, b = np.arange(size, dtype="f4"), np.empty(size, "f4")
        for _ in range(50):
            run(grid=1, block=size, args=(x, y))
            plain(grid=1, block=min(size, 256), args=(a, b))
            if y[-1] != size or b[0] != 1:
                wrong.append(size)

    workers = [threading.Thread(target=work, args=(64 * i,)) for i in range(1, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_random_order_is_repeatable_and_differs_by_seed(kernel):
    text = """__global__ void when(unsigned* clock, unsigned* out) {
      out[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(clock, 1u);
    }"""
    run = kernel(text, "when")

    def order(*schedule):
        clock, out = np.zeros(1, "u4"), np.empty(12 * 64, "u4")
        with emulator.schedule(*schedule):
            run(grid=12, block=64, args=(clock, out))
        assert sorted(out) == list(range(12 * 64))  # each thread once, also in random order
        return out.tolist()

    assert order("forward") == list(range(12 * 64))
    assert order("reverse") == list(range(12 * 64))[::-1]
    assert order("random", 1) == order("random", 1)
    assert order("random", 1) != order("random", 2)


def test_unknown_schedule():
    with pytest.raises(ArgumentError, match=r"schedule='backward'"), emulator.schedule("backward"):
        pass


def test_schedule_from_the_environment(monkeypatch):
    monkeypatch.setenv("GPUNET_EMULATOR_SCHEDULE", "random:7")
    assert schedules._from_environment() == (2, 7)
    monkeypatch.setenv("GPUNET_EMULATOR_SCHEDULE", "sideways")
    with pytest.raises(ArgumentError, match=re.escape("sideways")):
        schedules._from_environment()


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "?", "f2", BFLOAT16])
def test_poison(dtype):
    array = emulator.poison(np.zeros((3, 4), dtype)[:, ::2])
    assert array.tobytes() == b"\xff" * array.nbytes
    emulator.poison(np.zeros((), dtype))


def test_available_names_the_compiler_or_what_to_install(monkeypatch):
    assert emulator.available()[0]
    toolchain.compiler.cache_clear()
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    works, why = emulator.available()
    assert not works and "apt install g++" in why
    monkeypatch.setattr(toolchain.sys, "platform", "win32")
    assert "WSL" in emulator.available()[1]
    monkeypatch.undo()
    toolchain.compiler.cache_clear()
