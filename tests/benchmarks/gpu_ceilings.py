"""The ceilings: what memory and matrix units of this GPU reach, measured in the same run."""

import math
from bisect import bisect_left
from pathlib import Path
from typing import Any

from gpu_timing import buffer_sets, measure

from gpunet.backend.kernels import Kernel

SIZES = [8 << 20, 64 << 20, 512 << 20, 4 << 30]  # bytes moved: read and written
QUICK_SIZES = [1 << 12]
SOURCE = Path(__file__).with_name("gpu_ceilings.cu")
BLOCK = 512
_GRIDS = (132 * 4, 132 * 16)  # blocks; the better of the two counts


class Ceilings:
    """Bandwidths by kind and size, in bytes a second.

    Args:
        rows: As `measure_memory` returns them.

    Example:
        >>> ceilings = Ceilings([{"ceiling": "copy", "bytes": 8, "GB/s": 2.0}])
        >>> ceilings.at("copy", 100)
        2000000000.0
    """

    def __init__(self, rows: list[dict]):
        self.rows = rows

    def at(self, kind: str, nbytes: int) -> float | None:
        """The best bandwidth of a kind at a number of bytes, between the sizes measured.

        `None` where it was not measured.
        """
        best: dict[int, float] = {}
        for row in self.rows:
            if row["ceiling"].split(",")[0] == kind and row["GB/s"]:
                best[row["bytes"]] = max(row["GB/s"] * 1e9, best.get(row["bytes"], 0.0))
        if not best:
            return None
        sizes = sorted(best)
        i = bisect_left(sizes, nbytes)
        if i == 0 or i == len(sizes):
            return best[sizes[min(i, len(sizes) - 1)]]
        low, high = sizes[i - 1], sizes[i]
        part = math.log(nbytes / low) / math.log(high / low)
        return best[low] * (1 - part) + best[high] * part


def measure_ceilings(machine: Any, quick: bool) -> list[dict]:
    """Bandwidth of copying, reading and writing, and the rate of matrix products."""
    rows = []
    for nbytes in QUICK_SIZES if quick else SIZES:
        for kind in ("copy", "read", "write"):
            rows.append(_memory(machine, kind, nbytes))
        if machine.times:
            rows.append(_memcpy(machine, nbytes))
    return rows + (_products(machine) if machine.times and machine.torch else [])


def _memory(machine, kind, nbytes):
    """One of the kernels of `gpu_ceilings.cu`; checked once, then timed with both grids."""
    xp, n = machine.xp, nbytes // (8 if kind == "copy" else 4)
    kernel = Kernel(SOURCE.read_text(), f"ceiling_{kind}", file=SOURCE.name)
    sets = buffer_sets(nbytes) if machine.times else 1
    x = [xp.full(n, 0.5, "float32") for _ in range(sets if kind != "write" else 0)]
    few = max(_GRIDS) * BLOCK
    y = [xp.empty(few if kind == "read" else n, "float32") for _ in range(sets)]

    def call(i, grid=1):
        args = (y[i], 0.5) if kind == "write" else (x[i], y[i])
        kernel(grid=grid, block=BLOCK, args=(*args, n))

    call(0)
    wanted = 0.5 * n if kind == "read" else 0.5
    got = y[0][:BLOCK].sum() if kind == "read" else y[0].mean()
    row = {"ceiling": kind, "bytes": nbytes, "us": None, "GB/s": None, "TFLOP/s": None}
    if abs(float(got) - wanted) > 1e-3 * wanted:
        raise RuntimeError(f"ceiling_{kind} is wrong: {float(got)}, not {wanted}")
    if machine.times:
        machine.wait()
        times = [
            measure(machine.graphs(), lambda i, grid=grid: call(i, grid), sets) for grid in _GRIDS
        ]
        _add_rate(row, min(t.median for t in times), nbytes)
    return row


def _memcpy(machine, nbytes):
    """`cudaMemcpyAsync` from device to device."""
    xp, sets = machine.xp, buffer_sets(nbytes)
    x = [xp.full(nbytes // 2, 1, "uint8") for _ in range(sets)]
    y = [xp.empty(nbytes // 2, "uint8") for _ in range(sets)]

    def call(i):
        y[i].data.copy_from_device_async(x[i].data, nbytes // 2)

    machine.wait()
    row = {"ceiling": "copy, cudaMemcpyAsync", "bytes": nbytes}
    row |= {"us": None, "GB/s": None, "TFLOP/s": None}
    _add_rate(row, measure(machine.graphs(), call, sets).median, nbytes)
    return row


def _add_rate(row, seconds, nbytes):
    row.update({"us": seconds * 1e6, "GB/s": nbytes / seconds * 1e-9})


def _products(machine):
    """Matrix products of random numbers by cuBLAS, through PyTorch."""
    torch, rows = machine.torch, []
    for name, dtype, n in [
        ("cuBLAS bfloat16", torch.bfloat16, 4096),
        ("cuBLAS bfloat16", torch.bfloat16, 8192),
        ("cuBLAS TF32", torch.float32, 8192),
    ]:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = "TF32" in name
        a, b = (torch.randn(n, n, device="cuda").to(dtype) for _ in range(2))
        held: list[Any] = [None]

        def call(i, a=a, b=b, held=held):
            held[i] = a @ b

        torch.cuda.synchronize()
        seconds = measure(machine.torch_graphs(), call, 1).median
        torch.backends.cuda.matmul.allow_tf32 = before
        row = {"ceiling": f"{name} {n}", "bytes": 3 * a.nbytes, "us": seconds * 1e6, "GB/s": None}
        rows.append(row | {"TFLOP/s": 2 * n**3 / seconds * 1e-12})
    return rows
