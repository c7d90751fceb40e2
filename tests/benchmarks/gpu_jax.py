"""JAX on the same arrays, in a process of its own: it would take the memory of the others.

One JSON line for each row. A call is timed by the clock over many, since JAX has no graphs to
replay: short calls measure its dispatch too.

    python tests/benchmarks/gpu_jax.py "softmax" "layer norm"
"""

import argparse
import contextlib
import json
import os
import sys
from statistics import median
from time import perf_counter

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import gpu_check as check
from gpu_measure import RIVAL_ERROR
from gpu_timing import buffer_sets
from gpu_worker import ROWS

from gpunet.backend.device import Device
from gpunet.backend.device import device as on_device

CALLS, ROUNDS = 50, 5
MISSING = "JAX is not installed"


def main() -> None:
    """Measures JAX's form of the rows named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one call")
    parser.add_argument("--warm", action="store_true", help="compile, and stop")
    parser.add_argument("rows", nargs="+")
    options = parser.parse_args()
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        try:
            import jax
        except ImportError:
            for name in options.rows:
                print(json.dumps({"jax": name, "us": None, "note": MISSING}), file=out)
            return
        device = Device(options.device)
        for name in options.rows:
            print(json.dumps({"begin": name}), file=out, flush=True)
            try:
                found = time_jax(jax, device, ROWS[name], options)
            except Exception as error:  # a missing feature of JAX concerns this row only
                found = {"us": None, "note": f"{type(error).__name__}: {error}".splitlines()[0]}
            print(json.dumps({"jax": name} | found), file=out, flush=True)


def time_jax(jax, device, row, options) -> dict:
    """Microseconds of a call, or `None` on a CPU."""
    drawn = row.draw(device.xp, options.quick)
    shared = jax.dlpack.from_dlpack if device.kind == "cuda" else jax.numpy.asarray
    call, arguments = jitted(jax, row, [shared(x) for x in drawn])
    first = jax.block_until_ready(call(*arguments))
    if not options.warm:
        check_jax(device, row, drawn, first)
    if options.warm or options.quick:
        return {"us": None, "note": "emulated" if options.quick else "warmed"}
    nbytes = sum(x.nbytes for x in drawn)
    sets = [arguments]
    for _ in range(buffer_sets(nbytes) - 1):
        sets.append(jax.tree_util.tree_map(jax.numpy.copy, arguments))
    times = []
    for _ in range(ROUNDS):
        jax.block_until_ready(sets)
        start, held = perf_counter(), [None] * len(sets)
        for i in range(CALLS):
            held[i % len(sets)] = call(*sets[i % len(sets)])
        jax.block_until_ready(held)
        times.append((perf_counter() - start) / CALLS)
    return {"us": median(times) * 1e6, "note": "by the clock"}


def check_jax(device, row, drawn, out) -> None:
    """Raises ValueError if JAX computes something else than we mean."""
    with on_device(device):
        inputs = check.tensors(drawn, device)
        inputs = list(row.prepare(*inputs)) if row.prepare else inputs
        exact = check.reference(row.reference or row.run, inputs)[: row.compared]
        listed = out if isinstance(out, (tuple, list)) else (out,)
        view = device.xp.from_dlpack if device.kind == "cuda" else device.xp.asarray
        outputs = [view(y) for y in listed]
        error = check.rival_error(device.xp, outputs, exact)
    if not error <= RIVAL_ERROR:
        raise ValueError(f"differs from ours by {error:.2g} in the 2-norm")


def jitted(jax, row, arrays):
    """What is called, and its arguments: for gradients, the pull-back and a cotangent."""
    if not row.wrt:
        return jax.jit(lambda *xs: row.jax(jax, *xs)), arrays
    cotangent, *others = arrays

    def forward(*chosen):
        every = list(others)
        for i, x in zip(row.wrt, chosen, strict=True):
            every[i] = x
        return row.jax(jax, *every)

    result, pull = jax.vjp(forward, *[others[i] for i in row.wrt])
    return jax.jit(lambda pull, g: pull(g)), [pull, cotangent.astype(result.dtype)]


if __name__ == "__main__":
    main()
