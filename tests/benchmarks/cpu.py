"""Benchmarks on the CPU: import, an eager op, and training and inference of six networks.

    python tests/benchmarks/cpu.py                             # everything, under 15 minutes
    python tests/benchmarks/cpu.py --quick                     # a minute, few peers, not saved
    python tests/benchmarks/cpu.py networks --only mlp,gpt     # one part, two networks, not saved
    python tests/benchmarks/cpu.py ops --no-save               # one part, nothing written

The contenders take turns, round after round, each in a process of its own, on two processors; a
ratio is the median of the rounds' ratios, below 1 where gpunet is faster. Peers take part where
they are installed: `pip install -e ".[bench]"`. `step` is a training step on one batch in memory,
`fit` the library's loop; inference is one batch. The figures go to
`tests/benchmarks/results/cpu.json`, and from there into the README.
"""

import argparse
import os
import subprocess
import sys
import timeit
from importlib.util import find_spec
from statistics import median
from time import perf_counter

import cpu_report
import cpu_rounds
import numpy as np
import record
from cpu_models import WORKLOADS
from cpu_worker import CONTENDERS, KERAS

THREADS = 2
SETTINGS = {
    **{f"{name}_NUM_THREADS": str(THREADS) for name in ("OMP", "MKL", "OPENBLAS")},
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GPUNET_DEVICE": "cpu",
}
QUICK = ["gpunet", "PyTorch eager", "PyTorch best"]

# ------------------------------------------------------------------------------------- import

IMPORT = """
import time
start = time.process_time()
import {module}
print(time.process_time() - start, time.process_time())
"""


def bench_import(rounds):
    """CPU seconds of `import x` and of the whole process, Python's own start included."""
    modules = [name for name in ("gpunet", "numpy", "torch", "jax", "keras") if find_spec(name)]
    for module in modules:  # writes the bytecode caches
        import_seconds(module)
    seconds = {module: [] for module in modules}
    for _ in range(rounds):
        for module in modules:
            seconds[module].append(import_seconds(module))
    return [
        {
            "import": module,
            "best s": min(alone for alone, _ in times),
            "median s": median(alone for alone, _ in times),
            "process, best s": min(whole for _, whole in times),
            "process, median s": median(whole for _, whole in times),
        }
        for module, times in seconds.items()
    ]


def import_seconds(module):
    command = [sys.executable, "-c", IMPORT.format(module=module)]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users have bytecode caches
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return tuple(map(float, out.stdout.split()[-2:]))


# ------------------------------------------------------------------------------------ eager ops


def bench_ops(rounds):
    """Microseconds of one op on ten numbers: all of it is overhead."""
    import gpunet

    vector = np.linspace(-1, 1, 10, dtype="float32")
    matrix = np.linspace(-1, 1, 100, dtype="float32").reshape(10, 10)
    cases = [
        ("x + y", lambda x, y: x + y, None, vector),
        ("x @ y", lambda x, y: x @ y, None, matrix),
        ("relu(x)", lambda x, y: np.maximum(x, 0), lambda x, y: gpunet.ops.relu(x), vector),
    ]
    return [
        time_op(name, theirs, ours or theirs, data, rounds) for name, theirs, ours, data in cases
    ]


def time_op(name, numpy_op, gpunet_op, data, rounds, number=2000):
    import gpunet

    x, y = gpunet.tensor(data), gpunet.tensor(data)

    def taped():
        with gpunet.GradientTape() as tape:
            tape.watch(x)
            return timeit.timeit(lambda: gpunet_op(x, y), number=number)

    contenders = {
        "numpy": lambda: timeit.timeit(lambda: numpy_op(data, data), number=number),
        "gpunet": lambda: timeit.timeit(lambda: gpunet_op(x, y), number=number),
        "taped": taped,
    }
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(10 * rounds):
        for contender, run in contenders.items():
            best[contender] = min(best[contender], run() / number * 1e6)
    return {
        "op": name,
        "NumPy us": best["numpy"],
        "gpunet us": best["gpunet"],
        "with tape us": best["taped"],
        "overhead us": best["gpunet"] - best["numpy"],
        "overhead with tape us": best["taped"] - best["numpy"],
    }


# --------------------------------------------------------------------------------------- networks


def contenders(options):
    """Those that can take part; says which cannot."""
    wanted = options.contenders or (QUICK if options.quick else list(CONTENDERS))
    missing = {name: cpu_rounds.why_missing(name) for name in wanted}
    for name, reason in missing.items():
        if reason:
            print(f"{name} does not take part: {reason}")
    return [name for name in wanted if not missing[name]]


def bench_networks(options):
    """Training and inference, memory: everything about the six networks."""
    slice_s, measured, names = 0.08 if options.quick else 0.25, {}, contenders(options)
    for name in options.only or WORKLOADS:
        print(f"... {WORKLOADS[name].title}", file=sys.stderr, flush=True)
        measured[name] = cpu_rounds.compare(name, names, options.rounds, slice_s)
        for contender, found in measured[name].items():
            if isinstance(found, str):
                print(f"{contender} does not take part in {name}: {found}")
                measured[name][contender] = "failed"
    return measured


def network_tables(measured):
    """The tables of `bench_networks`, by the names under which they are kept."""
    reasons = {name: cpu_rounds.why_missing(name) for name in CONTENDERS}
    absent = {name: "not installed" for name, reason in reasons.items() if reason}
    measured = {name: {**results, **absent} for name, results in measured.items()}
    return {
        "training": cpu_report.time_rows(measured, ("step", "fit")),
        "inference": cpu_report.time_rows(measured, ("inference",)),
        "memory": cpu_report.memory_rows(measured),
    }


def bench_start(options):
    """Seconds from the start of the process to the end of the first step, import included."""
    names = [name for name in ("gpunet", "PyTorch eager", "JAX jit", *KERAS)]
    names = [name for name in names if not cpu_rounds.why_missing(name)]
    if options.quick:
        names = [name for name in names if name in (*QUICK, "Keras JAX")]
    return cpu_rounds.first_steps(1 if options.quick else 3, names)


def bench_planning(options):
    """Seconds in which gpunet traces and plans a training step."""
    return {
        name: median(cpu_rounds.planning_seconds(name) for _ in range(1 if options.quick else 3))
        for name in (options.only or (["resnet"] if options.quick else WORKLOADS))
    }


# ------------------------------------------------------------------------------------------ main

PARTS = ("import", "ops", "networks", "start", "planning")
NETWORK_TABLES = ("training", "inference", "memory")
TITLES = {
    "import": bench_import.__doc__,
    "ops": bench_ops.__doc__,
    "training": "Milliseconds of a training step (gpunet's time / the peer's)",
    "inference": "Milliseconds of the predictions for a batch (gpunet's time / the peer's)",
    "memory": "Peak memory of the process",
    "start": bench_start.__doc__,
    "planning": bench_planning.__doc__,
    "targets": "Targets: gpunet's time or memory divided by the peer's",
}


def run(parts, options):
    """Measures the parts and returns their tables."""
    tables, measured, seconds, planned = {}, {}, None, None
    if "import" in parts:
        tables["import"] = bench_import(min(options.rounds, 5))
    if "ops" in parts:
        tables["ops"] = bench_ops(min(options.rounds, 7))
    if "networks" in parts:
        measured = bench_networks(options)
        tables |= network_tables(measured)
    if "start" in parts:
        seconds = bench_start(options)
        tables["start"] = cpu_report.first_step_rows(seconds)
    if "planning" in parts:
        planned = bench_planning(options)
        tables["planning"] = [
            {"gpunet traces and plans": WORKLOADS[name].title, "s": value}
            for name, value in planned.items()
        ]
    targets = cpu_report.target_rows(measured, seconds, planned)
    return tables | ({"targets": targets} if targets else {})


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--only", type=words, help=f"networks, of {','.join(WORKLOADS)}")
    parser.add_argument("--contenders", type=words, help=f"of {','.join(CONTENDERS)}")
    parser.add_argument("--rounds", type=int, help="turns of each contender")
    parser.add_argument("--quick", action="store_true", help="few peers and rounds, not saved")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    for given, known in (
        (options.parts, PARTS),
        (options.only, WORKLOADS),
        (options.contenders, CONTENDERS),
    ):
        unknown = set(given or ()) - set(known)
        if unknown:
            parser.error(f"expected some of {', '.join(known)}. Received: {', '.join(unknown)}")
    options.rounds = options.rounds or (3 if options.quick else 7)
    return options


def words(text):
    return text.split(",")


def settle():
    """Two processors and two threads; the processes that are started inherit it."""
    os.environ |= SETTINGS
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])


def save(tables, parts):
    """Writes the tables down, each with the command that makes it."""
    if set(parts) != set(PARTS):
        tables.pop("targets", None)  # those of a whole run stay
    measured = record.circumstances()
    command = "python tests/benchmarks/cpu.py"
    for name, rows in tables.items():
        part = "networks" if name in NETWORK_TABLES else name.replace("targets", "")
        path = record.save(
            "cpu", {name: rows}, {**measured, "command": f"{command} {part}".strip()}
        )
    print(f"\nWritten to {os.path.relpath(path)}")


def main():
    options = arguments()
    settle()
    parts = options.parts or (PARTS[2:] if options.quick else PARTS)
    start, load = perf_counter(), os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 1:
        print(f"Other programs run (load {load:.1f}): threads that wait for each other suffer most")
    tables = run(parts, options)
    for name, rows in tables.items():
        record.show(TITLES[name].split("\n")[0], rows)
    print(f"\nMeasured in {(perf_counter() - start) / 60:.1f} minutes")
    if not (options.no_save or options.quick or options.only or options.contenders):
        save(tables, parts)


if __name__ == "__main__":
    main()
