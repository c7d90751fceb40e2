"""Training steps of five networks on a GPU, and the process that times one contender's.

The networks are Keras code, built from gpunet here; `gpu_models_torch.py` and `gpu_models_jax.py`
hold the same for the peers. All train on one batch that lies on the device, with the same
optimizer; float32 is exact (no TF32), and where a network is `mixed`, weights are float32 and
computation bfloat16. `gpu.py` starts a process for each network and contender, alone on the GPU,
so that memory and the first step are that contender's own. It prints one JSON line for what it
begins and what it has found:

    python tests/benchmarks/gpu_models.py "PyTorch compile" gpt

A step is called from Python as a training loop calls it; windows of many steps are timed by the
clock, from a device at rest to a device at rest, once the time of a step has settled.
"""

import argparse
import contextlib
import importlib
import json
import math
import sys
import traceback
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import cpu_models
import gpu_environment
import numpy as np

WINDOW = 0.3  # seconds that a window takes at least
WINDOWS = 9
FEWEST, MOST = 5, 2000  # steps in a window
SETTLED = 0.03  # two windows that differ by no more
SETTLING = 10  # windows at most
QUICK_STEPS = 8  # gpunet's graph is replayed from its third step on
TINY = "tiny, not timed"  # the note of --quick
STEPS_AT_ONCE = 16  # which gpunet makes one graph of

# ---------------------------------------------------------------------------------- the networks


class Network(NamedTuple):
    """What is trained.

    Attributes:
        title: What tables call it.
        build: Makes the model from a library like Keras and the size.
        data: Makes the batch, inputs and labels, from a random generator, a batch and the size.
        optimizer: Name of the optimizer and its arguments.
        batch: Samples of a step.
        size: Keyword arguments of `build`.
        quick: Those of `--quick`.
        mixed: Whether it computes in bfloat16.
        target: A peer, and what its time divided by gpunet's is to be; or `None`.
        limit: Seconds that a contender may take.
    """

    title: str
    build: Callable
    data: Callable
    optimizer: tuple[str, dict]
    batch: int
    size: dict
    quick: dict
    mixed: bool = False
    target: tuple[str, float] | None = None
    limit: int = 75

    def sized(self, quick: bool) -> dict:
        """The size that is built."""
        return self.quick if quick else self.size

    @property
    def items(self) -> int:
        """Labels of a step: images, sequences or, of texts, tokens."""
        return self.batch * self.size.get("block", 1)

    def arrays(self, quick: bool) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels of the one batch."""
        batch = 2 if quick else self.batch
        return self.data(np.random.default_rng(0), batch, **self.sized(quick))


def mlp(keras, units):
    return cpu_models.dense(keras, *units)


def lstm(keras, steps, features, units):
    return cpu_models.lstm(keras, steps, features, units)


def normalized(keras, x, filters, size, strides=1):
    layer = keras.layers.Conv2D(filters, size, strides, padding="same", use_bias=False)
    return keras.layers.BatchNormalization()(layer(x))


def cnn(keras, widths, image):
    """Two convolutions and a pooling for each width, then the mean and ten classes."""
    layers = keras.layers
    x = inputs = keras.Input((image, image, 3))
    for width in widths:
        for _ in range(2):
            x = layers.ReLU()(normalized(keras, x, width, 3))
        x = layers.MaxPooling2D(2)(x)
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def resnet(keras, blocks, width, image, classes):
    """ResNet with bottlenecks, the stride in their 3x3 convolution."""
    layers = keras.layers
    inputs = keras.Input((image, image, 3))
    x = layers.ReLU()(normalized(keras, inputs, width, 7, 2))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, count in enumerate(blocks):
        filters = width << stage
        for i in range(count):
            strides = 2 if stage and not i else 1
            y = layers.ReLU()(normalized(keras, x, filters, 1))
            y = layers.ReLU()(normalized(keras, y, filters, 3, strides))
            y = normalized(keras, y, 4 * filters, 1)
            x = x if i else normalized(keras, x, 4 * filters, 1, strides)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x))


def gpt(keras, **size):
    return cpu_models.gpt(keras, **size, tied=True)


def vectors(rng, batch, units):
    return labelled(rng, units[-1], batch, units[0])


def series(rng, batch, steps, features, units):
    return labelled(rng, 10, batch, steps, features)


def images(rng, batch, image, classes=10, **_):
    return labelled(rng, classes, batch, image, image, 3)


def labelled(rng, classes, *shape):
    x = rng.standard_normal(shape, "float32")
    return x, rng.integers(0, classes, shape[0], "int32")


def text(rng, batch, vocabulary, block, **_):
    tokens = rng.integers(0, vocabulary, (batch, block + 1), "int32")
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()


ADAM = "Adam", {"learning_rate": 1e-3}
SGD = "SGD", {"learning_rate": 0.01, "momentum": 0.9}
ADAMW = "AdamW", {"learning_rate": 3e-4, "weight_decay": 0.1}

NETWORKS = {
    "mlp": Network(
        "MLP 784-512-512-10, batch 128",
        mlp,
        vectors,
        ADAM,
        128,
        {"units": (784, 512, 512, 10)},
        {"units": (12, 9, 9, 10)},
        target=("PyTorch eager", 3.0),
    ),
    "cnn": Network(
        "CIFAR CNN, 6 convolutions, batch 512",
        cnn,
        images,
        SGD,
        512,
        {"widths": (64, 128, 256), "image": 32},
        {"widths": (4, 8), "image": 8},
    ),
    "lstm": Network(
        "LSTM 128, batch 64x64",
        lstm,
        series,
        ADAM,
        64,
        {"steps": 64, "features": 32, "units": 128},
        {"steps": 4, "features": 3, "units": 8},
        target=("PyTorch eager", 3.0),
    ),
    "resnet": Network(
        "ResNet-50, batch 256, bf16",
        resnet,
        images,
        SGD,
        256,
        {"blocks": (3, 4, 6, 3), "width": 64, "image": 224, "classes": 1000},
        {"blocks": (1, 2), "width": 4, "image": 16, "classes": 10},
        mixed=True,
        target=("PyTorch compile", 0.8),
        limit=150,
    ),
    "gpt": Network(
        "GPT-2 124M, batch 32x1024, bf16",
        gpt,
        text,
        ADAMW,
        32,
        {"vocabulary": 50304, "block": 1024, "width": 768, "heads": 12, "depth": 12},
        {"vocabulary": 17, "block": 8, "width": 16, "heads": 2, "depth": 1},
        mixed=True,
        target=("PyTorch compile", 0.95),
        limit=150,
    ),
}

# ------------------------------------------------------------------------------- the contenders


class Ready(NamedTuple):
    """A contender that is ready for its first step.

    Attributes:
        parameters: How many numbers it trains.
        step: Asks for a training step; need not wait for it.
        loss: Returns the loss of the last step, or of one more.
        wait: Waits for all steps asked for.
        allocated: Returns the most bytes its arrays took, where the library knows.
        several: Asks for `STEPS_AT_ONCE` steps, where the library can.
    """

    parameters: int
    step: Callable[[], Any]
    loss: Callable[[], float]
    wait: Callable[[], Any]
    allocated: Callable[[], int | None]
    several: Callable[[], Any] | None = None


# For each contender the library that it needs, the module with its `ready`, and arguments of that.
CONTENDERS = {
    "gpunet": ("gpunet", "gpu_models", {}),
    "PyTorch eager": ("torch", "gpu_models_torch", {}),
    "PyTorch compile": ("torch", "gpu_models_torch", {"form": "compile"}),
    "PyTorch CUDA graph": ("torch", "gpu_models_torch", {"form": "graph"}),
    "JAX jit": ("jax", "gpu_models_jax", {}),
}
AGAIN = "gpunet again"  # after the peers: how far the machine's own figures vary
PEERS = [name for name in CONTENDERS if name != "gpunet"]


@contextlib.contextmanager
def ready(name: str, network: Network, device: str, quick: bool):
    """Yields the step that `fit` runs, as a loop of a user's own would call it."""
    import gpunet

    place, before = gpunet.Device(device), gpunet.dtype_policies.dtype_policy()
    policy = "mixed_bfloat16" if network.mixed else "float32"
    gpunet.dtype_policies.set_dtype_policy(policy)
    try:
        with gpunet.device(place):
            yield _ready(gpunet, place, network, quick)
    finally:
        gpunet.dtype_policies.set_dtype_policy(before)


def _ready(gpunet, place, network, quick):
    gpunet.utils.set_random_seed(0)
    model = network.build(gpunet, **network.sized(quick))
    kind, arguments = network.optimizer
    loss = gpunet.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(getattr(gpunet.optimizers, kind)(**arguments), loss)
    batch = tuple([gpunet.tensor(a) for a in network.arrays(quick)])
    model._symbolic_build(data_batch=batch)
    run = model.make_train_function()
    on_gpu = place.kind == "cuda"

    def next_loss():
        model.reset_metrics()
        return float(run([batch])()["loss"])

    def several():
        return run([batch] * STEPS_AT_ONCE)

    return Ready(
        sum(math.prod(w.shape) for w in model.trainable_variables),
        lambda: run([batch]),
        next_loss,
        (lambda: place.xp.cuda.Device().synchronize()) if on_gpu else lambda: None,
        (lambda: place.xp.get_default_memory_pool().total_bytes()) if on_gpu else lambda: None,
        None if network.mixed or quick else several,
    )


# ------------------------------------------------------------------------------------ the clock


def measure(ready: Ready, quick: bool) -> dict:
    """Takes steps until their time has settled, then times windows of them."""
    facts: dict[str, Any] = {"first loss": ready.loss()}
    if quick:
        for _ in range(QUICK_STEPS):
            ready.step()
        ready.wait()
    else:
        facts |= timed(ready.step, ready.wait)
        if ready.several:
            facts |= timed_several(ready)
    facts["last loss"] = ready.loss()
    if not facts["last loss"] < facts["first loss"] < math.inf:  # NaN is not less, either
        facts |= {"ms": None, "note": "void: it does not learn"}
    return facts


def timed_several(ready: Ready) -> dict:
    """Milliseconds of a step where `STEPS_AT_ONCE` are asked for at once."""
    name = f"ms, {STEPS_AT_ONCE} steps at once"
    try:
        return {name: timed(ready.several, ready.wait)["ms"] / STEPS_AT_ONCE}
    except Exception as error:  # the figure of single steps stays
        return {name: None, "steps at once": f"{type(error).__name__}: {error}"[:300]}


def timed(step: Callable, wait: Callable) -> dict:
    """Milliseconds of a step: the median of the windows, and their spread."""

    def window(count):
        wait()
        start = perf_counter()
        for _ in range(count):
            step()
        asked = perf_counter() - start
        wait()
        return (perf_counter() - start) / count, asked / count

    for _ in range(2):
        once = window(FEWEST)[0]
    count = max(FEWEST, min(MOST, math.ceil(WINDOW / once)))
    before, now = math.inf, window(count)[0]
    for _ in range(SETTLING):
        if abs(now - before) <= SETTLED * now:
            break
        before, now = now, window(count)[0]
    times = sorted(window(count)[0] for _ in range(WINDOWS))
    return {
        "ms": 1e3 * times[WINDOWS // 2],
        "low ms": 1e3 * times[0],
        "high ms": 1e3 * times[-1],
        "to ask for a step ms": 1e3 * median(window(1)[1] for _ in range(WINDOWS)),
        "steps": count * WINDOWS,
    }


def find_out(contender: str, name: str, device: str, quick: bool) -> dict:
    """The facts of one contender and network; without a time, their `note` says why."""
    library, module, options = CONTENDERS[contender]
    network, facts = NETWORKS[name], {"ms": None, "note": TINY if quick else ""}
    if find_spec(library) is None:
        return facts | {"note": f"{library} is not installed"}
    make = importlib.import_module(module).ready
    importlib.import_module(library)
    start = perf_counter()
    try:
        with (
            warnings.catch_warnings(record=True) as heard,
            make(name, network, device, quick, **options) as contestant,
        ):
            contestant.step()
            contestant.wait()
            facts["first step s"] = perf_counter() - start
            facts["parameters"] = contestant.parameters
            facts |= measure(contestant, quick)
            facts["allocated GB"] = gigabytes(contestant.allocated())
            facts["held GB"] = None if quick else gpu_environment.memory_used()
        facts["warnings"] = list(dict.fromkeys(str(w.message)[:300] for w in heard))[:10]
    except Exception as error:  # of this network, such as a lack of memory
        traceback.print_exc()
        reason = str(error).strip().split("\n")[0][:300]
        return facts | {"ms": None, "note": f"{type(error).__name__}: {reason}"}
    return facts


def gigabytes(count):
    return None if count is None else count / 1e9


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing is timed")
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("networks", nargs="+", choices=NETWORKS)
    options = parser.parse_args()
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # of libraries that print
        for name in options.networks:
            print(json.dumps({"begin": name}), file=out, flush=True)
            facts = find_out(options.contender, name, options.device, options.quick)
            print(json.dumps({"network": name, "facts": facts}), file=out, flush=True)


if __name__ == "__main__":
    main()
