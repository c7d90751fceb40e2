"""What a GPU measurement was made on: what `nvidia-smi` reads, and the versions of packages."""

import os
import shutil
import subprocess
from importlib import metadata

import record

QUERY = (
    "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,power.limit,temperature.gpu"
)
LIBRARIES = ["cupy-cuda12x", "cupy-cuda13x", "torch", "triton", "jax", "nvidia-cudnn-cu13"]
LIBRARIES += ["nvidia-cublas", "nvidia-cuda-nvrtc", "ml_dtypes"]
SWITCHES = ["CUPY_TF32", "NVIDIA_TF32_OVERRIDE", "TORCHINDUCTOR_MIX_ORDER_REDUCTION", "XLA_FLAGS"]


def state() -> dict:
    """Clocks, power and temperature at this moment; empty without `nvidia-smi`."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    first = done.stdout.strip().splitlines()[:1]
    values = [value.strip() for value in first[0].split(",")] if first else []
    return dict(zip(QUERY.split(","), values, strict=False))


def memory_used() -> float | None:
    """Gigabytes that are taken on the GPU, by anybody; `None` without `nvidia-smi`."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    first = done.stdout.split()[:1]
    return float(first[0]) * 2**20 / 1e9 if first and first[0].isdigit() else None


def versions() -> dict:
    """The versions of Python and of the libraries that take part."""
    found = record.versions()
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def circumstances(commit: str | None, seed: int = 0) -> dict:
    """All of it, for the report."""
    switches = {name: os.environ[name] for name in SWITCHES if name in os.environ}
    return {
        "nvidia-smi": state(),
        "versions": versions(),
        "environment": switches,
        "seed": seed,
        "commit": commit,
    }
