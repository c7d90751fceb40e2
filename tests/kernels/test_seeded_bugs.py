"""Kernels with one planted fault each: every one is caught, by the means that is named for it.

The kernels are in `seeded_bugs/`, templates over `bool FIXED`. The sound version must pass all
means. The line that ends in "BUG: ..." is the one that errors and reports have to name.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gpunet.backend import emulator, nvrtc
from gpunet.backend.kernels import Kernel
from gpunet.errors import DeviceError, KernelError
from gpunet.testing import sanitize
from tests.kernels.conftest import SCHEDULES

FOLDER = Path(__file__).with_name("seeded_bugs")


@dataclass(frozen=True)
class Seed:
    """How a kernel is launched, and what catches its fault.

    `means` names them: "numbers" (wrong in some order), "emulator" (an error), "address" and
    "thread" (sanitizers); the text is part of the error. `numbers` makes inputs and right outputs.
    """

    numbers: Callable[[np.random.Generator], tuple[list, list[np.ndarray]]]
    grid: int
    block: int
    means: dict[str, str]


def backwards(size, run):
    def numbers(rng):
        x = rng.normal(size=size).astype("f4")
        return [x, out(size)], [x.reshape(-1, run)[:, ::-1].ravel()]

    return numbers


def doubled(n, *more):
    def numbers(rng):
        x = rng.normal(size=n).astype("f4")
        return [x, out(n), *more], [2 * x]

    return numbers


def out(*shape, dtype="f4"):
    return emulator.poison(np.empty(shape, dtype))


def zeros(size):
    return np.zeros(size, "f4")


def sum_of_rows(rows, cols, shift, start):
    def numbers(rng):
        x = rng.integers(0, 9, (rows, cols)).astype("f4")
        return [x, start(cols), np.int32(rows)], [np.roll(x.sum(0), -shift)]

    return numbers


def differences(rng):
    x = rng.normal(size=100).astype("f4")
    return [x, out(100), np.int32(100)], [np.append(np.diff(x), np.float32(0))]


def transposed(rng):
    x = rng.normal(size=(6, 10)).astype("f4")
    return [x, out(10, 6), np.int32(6), np.int32(10)], [x.T]


def counted(rng):
    x = rng.normal(size=(3, 64)).astype("f4")
    return [x, out(3, dtype="i4")], [(x > 0).sum(1)]


def summed(rng):
    x = rng.integers(0, 9, 32).astype("f4")
    return [x, out(1)], [x[:16].sum(keepdims=True)]


def some_backwards(rng):
    x = rng.normal(size=50).astype("f4")
    return [x, out(50), np.int32(50)], [x[::-1]]


def handed_over(rng):
    x = rng.normal(size=2).astype("f4")
    return [x, out(2), np.zeros(1, "i4")], [x[[1, 1]], np.ones(1, "i4")]


def sums_of_four(rng):
    x = rng.integers(0, 9, (8, 5)).astype("f4")
    return [x, out(8), np.int32(5)], [x[:, :4].sum(1)]


def turned_tiles(rng):
    x = rng.normal(size=5 * 128).astype("f4")
    return [x, out(x.size), np.int32(5)], [x.reshape(-1, 4)[:, ::-1].ravel()]


def product(rng):
    a, b = rng.integers(0, 9, (16, 16)), rng.integers(0, 9, (16, 8))
    return [a.astype("f2"), b.astype("f2"), out(16, 8)], [a @ b]


def histogram(rng):
    x = rng.integers(0, 4, 64).astype("i4")
    return [x, np.zeros(4, "i4")], [np.bincount(x, minlength=4)]


def total(rng):
    x = rng.integers(0, 9, 96).astype("f4")
    sums = x.reshape(3, 32).sum(1)
    return [x, out(3), np.zeros(1, "u4"), out(1)], [sums, [3], [x.sum()]]


SEEDS = {
    "missing_barrier": Seed(backwards(128, 64), 2, 64, {"numbers": "", "thread": "race: shared"}),
    "missing_second_barrier": Seed(
        sum_of_rows(3, 64, 1, out), 1, 64, {"numbers": "", "thread": "race: shared"}
    ),
    "missing_syncwarp": Seed(backwards(64, 32), 1, 64, {"numbers": "", "thread": "race: shared"}),
    "read_past_end": Seed(
        differences, 2, 64, {"address": "0 bytes after the end of argument 0 (float32"}
    ),
    "write_past_end": Seed(
        doubled(100, np.int32(100)), 2, 64, {"address": "0 bytes after the end of argument 1"}
    ),
    "race_on_global": Seed(
        sum_of_rows(3, 32, 0, zeros), 3, 32, {"thread": "race: argument 1 (float32"}
    ),
    "wrong_stride": Seed(transposed, 1, 60, {"numbers": ""}),
    "uninitialised_shared": Seed(counted, 3, 64, {"numbers": ""}),
    "missing_mask": Seed(
        summed, 1, 32, {"emulator": "wait for each other and none can go on: 16 threads at"}
    ),
    "divergent_barrier": Seed(some_backwards, 1, 64, {"emulator": "14 threads exited"}),
    "deadlock": Seed(handed_over, 1, 32, {"emulator": "sleep"}),
    "misaligned_vector": Seed(sums_of_four, 1, 8, {"address": "misaligned access"}),
    "missing_copy_wait": Seed(turned_tiles, 1, 32, {"numbers": ""}),
    "wrong_ldmatrix_row": Seed(product, 1, 32, {"numbers": ""}),
    "lost_last_block": Seed(doubled(100, np.int32(100)), 2, 32, {"numbers": ""}),
    "index_overflow": Seed(
        doubled(64, np.int32(2**30), 64), 5, 64, {"address": "signed integer overflow"}
    ),
    "forgotten_atomic": Seed(histogram, 2, 32, {"thread": "race: argument 1 (int32"}),
    "missing_fence": Seed(total, 3, 32, {"thread": "race: argument 1 (float32"}),
}
CAUGHT = [(name, means) for name, seed in SEEDS.items() for means in seed.means]


def compiled(name, fixed):
    text = (FOLDER / f"{name}.cu").read_text()
    return Kernel(text, name, (fixed,), file=f"{name}.cu")


def bug_line(name):
    lines = (FOLDER / f"{name}.cu").read_text().splitlines()
    (line,) = [number for number, line in enumerate(lines, 1) if "// BUG: " in line]
    return f"{name}.cu line {line}"


def is_right_in_every_order(kernel, seed):
    """Whether the results are the expected ones, to the bit, in every order of threads."""
    for order in SCHEDULES:
        args, expected = seed.numbers(np.random.default_rng(0))
        with emulator.schedule(*order):
            kernel(grid=seed.grid, block=seed.block, args=args)
        written = [x for x in args[1:] if isinstance(x, np.ndarray)][-len(expected) :]
        if not all(np.array_equal(y, z) for y, z in zip(written, expected, strict=True)):
            return False
    return True


def watch(kernel, seed, *tools):
    args, _ = seed.numbers(np.random.default_rng(0))
    sanitize(kernel, grid=seed.grid, block=seed.block, args=args, tools=tools)


@functools.cache
def why_not(tool):
    """Why a sanitizer does not work here, or ""."""
    kernel = Kernel("__global__ void nothing(float* x) {}", "nothing")
    try:
        sanitize(kernel, grid=1, block=1, args=(np.zeros(1, "f4"),), tools=(tool,))
    except DeviceError as error:
        return str(error)
    return ""


def need(*tools):
    for tool in tools:
        if why_not(tool):
            pytest.skip(why_not(tool))


@pytest.mark.parametrize(("name", "means"), CAUGHT)
def test_bug_is_caught(name, means):
    seed, kernel = SEEDS[name], compiled(name, False)
    if means == "numbers":
        assert not is_right_in_every_order(kernel, seed)
        return
    if means != "emulator":
        need(means)
    with pytest.raises(KernelError) as error:
        if means == "emulator":
            args, _ = seed.numbers(np.random.default_rng(0))
            kernel(grid=seed.grid, block=seed.block, args=args)
        else:
            watch(kernel, seed, means)
    assert seed.means[means] in str(error.value)
    assert bug_line(name) in str(error.value)


@pytest.mark.parametrize("name", SEEDS)
def test_sound_version_passes_everything(name):
    seed, kernel = SEEDS[name], compiled(name, True)
    assert is_right_in_every_order(kernel, seed)
    need("address", "thread")
    watch(kernel, seed, "address", "thread")


def test_every_seed_is_a_file_and_real_cuda():
    assert {path.stem for path in FOLDER.glob("*.cu")} == set(SEEDS)
    for name in SEEDS:
        both = [f"{name}<{fixed}>" for fixed in ("false", "true")]
        assert set(nvrtc.compile_cubin(compiled(name, True).text, both).kernels) == set(both)
