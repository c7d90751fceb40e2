"""The command line: `python -m gpunet demo`, `devices` and `kernels`."""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import gpunet
from gpunet.backend import emulator, native
from gpunet.backend.device import Device, cuda_status, current_device
from gpunet.backend.sources import kernel_dir
from gpunet.errors import GpunetError

TARGET_ACCURACY = 0.98


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status, which is not 0 when a check of it failed."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except GpunetError as error:
        print(f"gpunet: {error}", file=sys.stderr)
        return 2


def _parser():
    parser = argparse.ArgumentParser(prog="python -m gpunet", description=gpunet.__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    demo = commands.add_parser("demo", help="train a small CNN on real handwritten digits")
    demo.add_argument("--device", help="cpu, cuda, cuda:N or emulator; default: the fastest here")
    demo.add_argument("--epochs", type=_positive, default=15, help="default: %(default)s")
    demo.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    demo.add_argument("--save", type=Path, metavar="PATH", help="keep the model, as PATH.keras")
    demo.set_defaults(run=_demo)
    devices = commands.add_parser("devices", help="tell which devices work here, and why not")
    devices.set_defaults(run=_devices)
    kernels = commands.add_parser("kernels", help="list the CUDA kernels, or show one")
    kernels.add_argument("name", nargs="?", help="part of a kernel's, a file's or an op's name")
    kernels.set_defaults(run=_kernels)
    return parser


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


# -- demo ---------------------------------------------------------------------------------------


def _demo(options):
    with gpunet.device(options.device or current_device()) as device:
        (x_train, y_train), (x_test, y_test) = gpunet.datasets.digits.load_data()
        x_train, x_test = (x[..., None].astype("float32") / 16 for x in (x_train, x_test))
        print(
            f"Training on {len(x_train)} of scikit-learn's handwritten digits, device {device}.\n"
        )
        first_losses = _first_losses(device, options.seed, x_train, y_train)
        model = _model(options.seed)
        model.summary()
        start = time.perf_counter()
        model.fit(x_train, y_train, batch_size=64, epochs=options.epochs)
        seconds = time.perf_counter() - start
        _, accuracy = model.evaluate(x_test, y_test, batch_size=256, verbose=0)
        probabilities = model.predict(x_test, batch_size=256, verbose=0)
        _show_digits(x_test, y_test, probabilities)
        print(f"\nTest accuracy {accuracy:.4f} on {len(x_test)} digits held out, {seconds:.1f} s.")
        print("First-step loss " + ", ".join(f"{k}: {v:.7f}" for k, v in first_losses.items()))
        _save_and_reload(model, x_test, probabilities, options.save)
    return _verdict(accuracy, first_losses, full=options.epochs >= 15)


def _model(seed):
    gpunet.utils.clear_session()  # so that layers are named alike in every model
    gpunet.utils.set_random_seed(seed)
    layers = gpunet.layers
    model = gpunet.Sequential(
        [
            gpunet.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10),
        ],
        name="digits",
    )
    loss = gpunet.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(gpunet.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    return model


def _first_losses(device, seed, x, y):
    """The loss of the first step here and on the CPU: the same seed gives the same step."""
    losses = {}
    for name in dict.fromkeys(["cpu", device.name]):
        with gpunet.device(name):
            losses[name] = float(_model(seed).train_on_batch(x[:64], y[:64])[0])
    return losses


def _show_digits(images, labels, probabilities, count=6):
    """Prints images with what the model takes them for; a pixel is two characters wide."""
    shades = " ░▒▓█" if _prints_unicode() else " .:*#"
    print()
    for row in range(8):
        lines = [images[i, row, :, 0] for i in range(count)]
        print("   ".join("".join(shades[int(p * 4.99)] * 2 for p in line) for line in lines))
    for i in range(count):
        guess = probabilities[i].argmax()
        mark = "" if guess == labels[i] else f" (is {labels[i]})"
        print(f"{f'looks like {guess}{mark}':<19}", end="")
    print()


def _prints_unicode():
    return (sys.stdout.encoding or "").lower().startswith("utf")


def _save_and_reload(model, x, expected, path):
    with tempfile.TemporaryDirectory() as folder:
        target = (path or Path(folder, "digits")).with_suffix(".keras")
        model.save(target)
        loaded = gpunet.models.load_model(target)
        np.testing.assert_array_equal(loaded.predict(x, batch_size=256, verbose=0), expected)
        size = target.stat().st_size / 1e6
        where = f"Saved to {target}" if path else "Saved"
        print(f"{where} ({size:.1f} MB), loaded again, and checked: the same predictions.")


def _verdict(accuracy, losses, full):
    here, cpu = list(losses.values())[-1], losses["cpu"]
    if abs(here - cpu) > 1e-5:
        print(f"FAILED: the first step differs from that on the CPU by {here - cpu:.1e}.")
        return 1
    if full and accuracy < TARGET_ACCURACY:
        print(f"FAILED: a test accuracy of at least {TARGET_ACCURACY} was expected.")
        return 1
    return 0


# -- devices ------------------------------------------------------------------------------------


def _devices(options):
    print(f"gpunet {gpunet.__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(f"cpu         works: {os.cpu_count()} cores{_memory()}, NumPy {np.__version__}")
    missing = native.reason_missing()
    print(f"            graphs run {f'on NumPy: {missing}' if missing else 'C++ kernels'}")
    count, reason = cuda_status()
    for i in range(count):
        print(f"cuda:{i:<7}works: {_describe_gpu(i)}")
    if not count:
        print(f"cuda        does not work here: {reason}")
    works, reason = emulator.available()
    print(f"emulator    {'works' if works else 'does not work here'}: {reason}")
    print(f"The default is {current_device()}.")
    return 0


def _memory():
    """The size of the main memory, where the operating system tells it in a simple way."""
    names = getattr(os, "sysconf_names", {})
    if not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= names.keys():
        return ""
    return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"


def _describe_gpu(index):
    cupy = Device(f"cuda:{index}").xp
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(index)
    free, total = cupy.cuda.Device(index).mem_info
    name = properties["name"].decode()
    return (
        f"{name}, compute capability {properties['major']}.{properties['minor']}, "
        f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free, CUDA driver "
        f"{runtime.driverGetVersion()}, CuPy {cupy.__version__}"
    )


# -- kernels ------------------------------------------------------------------------------------

_NAMED = 2  # how many ops of a kernel are listed by name


def _kernels(options):
    """Prints what `tests/kernels/record.py` found out about each kernel."""
    known = json.loads((kernel_dir() / "kernels.json").read_text("utf-8"))
    rows = [
        (file, kernel, facts)
        for file, kernels in known["kernels"].items()
        for kernel, facts in kernels.items()
        if not options.name or any(options.name in x for x in (file, kernel, *facts["ops"]))
    ]
    if not rows:
        print(f"gpunet: no kernel, file or op has {options.name!r} in its name", file=sys.stderr)
        return 2
    _show_kernels(rows, known["architecture"])
    if len(rows) == 1:
        file, kernel, facts = rows[0]
        print(f"\nLaunched by {', '.join(facts['ops']) or 'large shapes only'}.")
        print(f"{kernel_dir() / file}\n\n{_header(file, kernel)}")
    return 0


def _show_kernels(rows, architecture):
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("kernel", "ops", "dtypes"):
        table.add_column(name, no_wrap=True)
    for name in ("variants", "regs", "spills", "error f32", "measured"):
        table.add_column(name, justify="right", no_wrap=True)
    last = None
    for file, kernel, facts in rows:
        if file != last:
            table.add_row(f"[bold]{file}")
        last, error, ops = file, facts["errors"].get("float32"), facts["ops"]
        more = f" and {len(ops) - _NAMED} more" if len(ops) > _NAMED else ""
        table.add_row(
            f"  {kernel}",
            ", ".join(ops[:_NAMED]) + more,
            facts["dtypes"],
            *(str(facts[name]) for name in ("variants", "registers", "spills")),
            "" if error is None else f"{error:.0e}",
            _measured(file, kernel),
        )
    wide = None if sys.stdout.isatty() else 160
    Console(width=wide, highlight=False).print(table)
    print(
        f"\nKernels: {len(rows)}. Registers and spills: the most of any variant, {architecture}. "
        "Error: the largest difference\nto float64 over the rows of the case tables, on the "
        "emulator, as a share of the largest result."
    )


def _measured(file, kernel):
    """What the comment above a kernel says was measured; tests/benchmarks/gpu.py writes it."""
    return _header(file, kernel).partition("Measured")[2].partition("\n")[0].strip()


def _header(file, kernel):
    """The comment that stands above a kernel, in which its formula and its limits are written."""
    lines = (kernel_dir() / file).read_text("utf-8").splitlines()
    begins = f"// {kernel}<", f"// {kernel} "  # a few kernels are no templates
    start = next(i for i, line in enumerate(lines) if line.startswith(begins))
    stop = next(i for i in range(start, len(lines)) if not lines[i].startswith("//"))
    return "\n".join(line[3:] for line in lines[start:stop])
