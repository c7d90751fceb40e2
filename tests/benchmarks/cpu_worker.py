"""What runs in a contender's own process: the model is built and warmed up once, then timed."""

import contextlib
import functools
import importlib
import os
import resource
import sys
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from cpu_models import WORKLOADS


def torch_contender(name, data, **options):
    module = importlib.import_module("cpu_torch")
    return module.contender(name, WORKLOADS[name], data, **options)


def jax_contender(name, data):
    return importlib.import_module("cpu_jax").contender(name, WORKLOADS[name], data)


def keras_library(backend):
    """Imports gpunet, or Keras on a backend."""
    if backend == "gpunet":
        return importlib.import_module("gpunet")
    os.environ["KERAS_BACKEND"] = backend
    if backend == "tensorflow":
        with quiet():
            tensorflow = importlib.import_module("tensorflow")
        tensorflow.config.threading.set_intra_op_parallelism_threads(2)
        tensorflow.config.threading.set_inter_op_parallelism_threads(2)
    else:  # Keras would import it all the same, which costs seconds and half a gigabyte
        sys.modules["tensorflow"] = None
    if backend == "torch":
        importlib.import_module("torch").set_num_threads(2)
    return importlib.import_module("keras")


@contextlib.contextmanager
def quiet():
    """Hides what TensorFlow's C++ code writes while it starts."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def keras_model(keras, workload):
    keras.utils.set_random_seed(0)
    model = workload.build(keras)
    kind, arguments = workload.optimizer
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(getattr(keras.optimizers, kind)(**arguments), loss)
    return model


def keras_contender(name, data, backend):
    """Returns the number of parameters and the ways to run: functions of a number of turns."""
    workload, keras = WORKLOADS[name], keras_library(backend)
    model = keras_model(keras, workload)
    x, y = data
    batch = x[: workload.batch], y[: workload.batch]

    @functools.lru_cache(1)
    def repeated(steps):
        return np.concatenate([x] * steps), np.concatenate([y] * steps)

    def fit(turns):
        options = {"batch_size": workload.batch, "verbose": 0}
        if workload.arrays is None:
            return model.fit(x, y, epochs=turns, **options).history["loss"][-1]
        return model.fit(*repeated(turns), shuffle=False, **options).history["loss"][-1]

    def infer(steps):
        for _ in range(steps):
            model.predict_on_batch(batch[0])

    ways = {"fit": fit, "inference": infer}
    if backend == "gpunet":
        ways = {"step": gpunet_step(keras, model, batch), **ways}
    return sum(int(np.prod(w.shape)) for w in model.trainable_variables), ways


def gpunet_step(gpunet, model, batch):
    """The step that `fit` runs, alone, as a loop of a user's own would call it."""
    batch = tuple([gpunet.tensor(a) for a in batch])
    model._symbolic_build(data_batch=batch)
    step = model.make_train_function()

    def train(steps):
        model.reset_metrics()
        for _ in range(steps):
            logs = step([batch])
        return float((logs() if callable(logs) else logs)["loss"])

    return train


# For each contender the module that it needs, and how it is built in its own process.
CONTENDERS = {
    "gpunet": ("gpunet", functools.partial(keras_contender, backend="gpunet")),
    "PyTorch eager": ("torch", torch_contender),
    "PyTorch best": ("torch", functools.partial(torch_contender, best=True)),
    "PyTorch compile": ("torch", functools.partial(torch_contender, best=True, compiled=True)),
    "JAX jit": ("jax", jax_contender),
    "Keras JAX": ("jax", functools.partial(keras_contender, backend="jax")),
    "Keras TensorFlow": ("tensorflow", functools.partial(keras_contender, backend="tensorflow")),
    "Keras PyTorch": ("torch", functools.partial(keras_contender, backend="torch")),
}
KERAS = [name for name in CONTENDERS if name.startswith("Keras")]


# --------------------------------------------------------------------------- served to the parent


class Runner:
    """One contender and one workload, ready to be timed.

    Attributes:
        facts: For the parent: parameters, ways to run with the turns of a slice, peak MB.
    """

    def __init__(self, contender, name, data, slice_s):
        parameters, self.ways = CONTENDERS[contender][1](name, data)
        workload = WORKLOADS[name]
        epoch = 1 if workload.arrays else -(-len(data[0]) // workload.batch)
        self.steps = {way: epoch if way == "fit" else 1 for way in self.ways}
        turns, first = {}, None
        for way, run in self.ways.items():
            run(1)
            seconds = min(self.measure(way, 1)[0] * self.steps[way] for _ in range(2))
            share = 0.5 if way == "inference" else 1.0
            turns[way] = int(min(max(1, share * slice_s / seconds), 500))
            if turns[way] > 1:
                run(turns[way])
            first = first or peak_mb()  # of training by its first way
        self.facts = {"parameters": parameters, "turns": turns, "peak MB": first}

    def measure(self, way, turns):
        """Returns wall and CPU seconds of a step, and the loss."""
        wall, cpu = perf_counter(), process_time()
        loss = self.ways[way](turns)
        wall, cpu = perf_counter() - wall, process_time() - cpu
        steps = turns * self.steps[way]
        return wall / steps, cpu / steps, loss


def peak_mb():
    """The most memory this process has held; Linux's own figure leaves out the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(a for a in status.read_text().splitlines() if a.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def serve(connection, contender, name, data, slice_s):
    """Builds a contender, then measures it as often as it is asked to."""
    try:
        runner = Runner(contender, name, data, slice_s)
    except Exception as error:  # the parent shows it in the table
        connection.send(f"{type(error).__name__}: {str(error).strip()[:300]}")
        return
    connection.send(runner.facts)
    while (request := connection.recv()) is not None:
        connection.send(runner.measure(*request))


# -------------------------------------------------------------------------------- whole processes


def first_step(contender):
    """Makes one training step of the MLP; the parent measures from the start of the process."""
    _, ways = CONTENDERS[contender][1]("mlp", WORKLOADS["mlp"].data())
    ways.get("fit", ways.get("step"))(1)


def planning(name):
    """Returns the seconds of gpunet's first step beyond those of a later one."""
    gpunet = keras_library("gpunet")
    workload = WORKLOADS[name]
    model = keras_model(gpunet, workload)
    x, y = workload.data()
    batch = x[: workload.batch], y[: workload.batch]
    step = gpunet_step(gpunet, model, batch)
    times = []
    for _ in range(4):
        start = perf_counter()
        step(1)
        times.append(perf_counter() - start)
    return times[0] - min(times[1:])


if __name__ == "__main__":
    if sys.argv[1] == "first":
        first_step(sys.argv[2])
        print("done", flush=True)
    else:
        print(planning(sys.argv[2]))
