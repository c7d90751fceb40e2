"""Benchmarks on the CPU: import, the cost of an eager op, and training a small network.

    python tests/benchmarks/cpu.py                     # everything, some three minutes
    python tests/benchmarks/cpu.py ops --no-save       # one part, nothing written

The contenders take turns, round after round, so that a busy machine slows all of them; a ratio is
the median of the rounds' ratios. PyTorch and Keras take part where they are installed:
`pip install -e ".[bench]"`. The figures go to `tests/benchmarks/results/cpu.json`.
"""

import argparse
import functools
import os
import subprocess
import sys
import timeit
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from statistics import median
from time import perf_counter, process_time

import numpy as np
import record

BATCH, EPOCHS_PER_ROUND = 32, 5


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


# ------------------------------------------------------------------------------------- training
#
# Each trainer builds Dense(64)-Dense(32)-Dense(10) with Adam for the digits and returns a function
# that trains some epochs and gives the last one's mean loss. All start from their own library's
# default weights, shuffle every epoch and keep the running loss, as their users do.


def digits():
    from gpunet.datasets import digits

    (x, y), _ = digits.load_data()
    return x.reshape(-1, 64).astype("float32") / 16, y.astype("int64")


def keras_trainer(library, x, y):
    layers = library.layers
    library.utils.set_random_seed(0)
    model = library.Sequential(
        [
            library.Input((64,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(32, activation="relu"),
            layers.Dense(10),
        ]
    )
    loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)

    def train(epochs):
        return model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0).history["loss"][-1]

    return train


def gpunet_trainer(x, y):
    import gpunet

    return keras_trainer(gpunet, x, y)


def keras_jax_trainer(x, y):
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    return keras_trainer(keras, x, y)


def torch_trainer(x, y, **adam_options):
    import torch
    from torch import nn

    torch.manual_seed(0)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    model = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), **adam_options)
    loss_function = nn.CrossEntropyLoss()

    def train(epochs):
        for _ in range(epochs):
            total = 0.0
            for rows in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad()
                loss = loss_function(model(x[rows]), y[rows])
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
        return total / len(x)

    return train


TRAINERS = {
    "PyTorch, eager loop": ("torch", torch_trainer),
    "PyTorch, fused Adam": ("torch", functools.partial(torch_trainer, fused=True)),
    "gpunet fit": ("gpunet", gpunet_trainer),
    "Keras fit, JAX": ("keras", keras_jax_trainer),
}


@functools.cache
def warm_trainer(name):
    train = TRAINERS[name][1](*digits())
    train(2)
    return train


def time_round(name):
    """Runs in the contender's own process; returns wall and CPU time of a step in us, and loss."""
    train = warm_trainer(name)
    wall, cpu = perf_counter(), process_time()
    loss = train(EPOCHS_PER_ROUND)
    wall, cpu = perf_counter() - wall, process_time() - cpu
    steps = EPOCHS_PER_ROUND * -(-len(digits()[0]) // BATCH)
    return wall / steps * 1e6, cpu / steps * 1e6, float(loss)


def bench_training(rounds):
    """Microseconds of a training step at batch 32, and the ratio to PyTorch (below 1: faster)."""
    names = [name for name, (module, _) in TRAINERS.items() if find_spec(module)]
    spawn = get_context("spawn")
    # A process for each: thread pools and allocators of one library do not disturb another.
    processes = {name: ProcessPoolExecutor(1, mp_context=spawn) for name in names}
    measured = {name: [] for name in names}
    for turn in range(-1, rounds):
        for name in names if turn % 2 else reversed(names):
            result = processes[name].submit(time_round, name).result()
            if turn >= 0:  # the first turn warms up
                measured[name].append(result)
    for process in processes.values():
        process.shutdown()
    rows = []
    for name, results in measured.items():
        walls, cpus, losses = zip(*results, strict=True)
        row = {"training step": name, "median us": median(walls), "best us": min(walls)}
        row |= {"CPU us": median(cpus), "final loss": losses[-1]}
        peer = [wall for wall, _, _ in measured.get("PyTorch, eager loop", [])]
        row["ratio to PyTorch"] = (
            median(ours / theirs for ours, theirs in zip(walls, peer, strict=True)) if peer else "-"
        )
        rows.append(row)
    return rows


# ------------------------------------------------------------------------------------------ main

PARTS = {"import": bench_import, "ops": bench_ops, "training": bench_training}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    unknown = set(options.parts) - PARTS.keys()
    if unknown:
        parser.error(f"parts are {', '.join(PARTS)}. Received: {', '.join(sorted(unknown))}")
    os.environ.setdefault("GPUNET_DEVICE", "cpu")
    results = {}
    for part in options.parts or PARTS:
        results[part] = PARTS[part](options.rounds)
        record.show(PARTS[part].__doc__, results[part])
    if not options.no_save:
        print(f"\nWritten to {os.path.relpath(record.save('cpu', results))}")


if __name__ == "__main__":
    main()
