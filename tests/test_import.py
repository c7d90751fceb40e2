"""`import gpunet` is quick because what it does not need, it does not import.

How long it takes is measured by `tests/benchmarks/cpu.py`, not here: a shared machine would make
such a test fail at random.
"""

import subprocess
import sys

HEAVY = {
    "cupy",
    "cupyx",
    "h5py",
    "jax",
    "keras",
    "matplotlib",
    "mpi4py",
    "onnx",
    "onnxruntime",
    "pandas",
    "pooch",
    "pydot",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "tensorboardX",
    "tensorflow",
    "torch",
    "tqdm",
}

SCRIPT = """
import sys
import gpunet
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_import_loads_nothing_optional_or_heavy():
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr
    loaded = child.stdout.split()
    assert {"gpunet", "numpy"} <= set(loaded)
    assert not HEAVY & set(loaded)
    assert child.stderr == "", "import gpunet must not print"
