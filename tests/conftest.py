"""What holds for all tests: where they run, how they are seeded, and what could not run here."""

import os
import random
import tempfile
from pathlib import Path

# These are read when the libraries are imported, hence before the tests. Tests that say nothing
# run on the CPU, also where a GPU works; Keras, their reference, runs on JAX without settings of
# the user's own.
os.environ.setdefault("GPUNET_DEVICE", "cpu")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compiles faster; tests are small
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("KERAS_HOME", str(Path(tempfile.gettempdir(), "gpunet-tests-keras")))
os.environ.setdefault("MPLBACKEND", "agg")

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("gpunet", deadline=None, derandomize=True)
hypothesis.settings.load_profile("gpunet")

NOT_RUN = pytest.StashKey[list[str]]()


def why_no_cuda(config):
    """Returns why CUDA devices do not work here; an empty text where one does."""
    from gpunet.backend.device import cuda_status

    return cuda_status()[1]


def why_not_thorough(config):
    """Thorough tests run where `-m` asks for them, as a step of `.ci/run` does."""
    return "" if "thorough" in config.option.markexpr else "they have a step of their own in CI"


NEEDS = {
    "cuda": ("a CUDA device", why_no_cuda),
    "thorough": ("`pytest -m thorough`", why_not_thorough),
}


def pytest_collection_modifyitems(config, items):
    """Takes out the tests that cannot run here and notes how many, for the summary."""
    config.stash[NOT_RUN] = []
    for mark, (need, why_not) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(mark)]
        reason = why_not(config) if marked else ""
        if reason:
            config.hook.pytest_deselected(items=marked)
            items[:] = [item for item in items if item not in marked]
            count = f"{len(marked)} tests need" if len(marked) > 1 else "1 test needs"
            config.stash[NOT_RUN].append(f"{count} {need} and did not run here: {reason}")


def pytest_sessionfinish(session):
    """Under pytest-xdist the workers collect the tests, and the controller prints the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["not_run"] = session.config.stash.get(NOT_RUN, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[NOT_RUN] = getattr(node, "workeroutput", {}).get("not_run", [])


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(NOT_RUN, []):
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(autouse=True)
def seed():
    """Seeds every generator before each test, so that none depends on those that ran before."""
    random.seed(0)
    np.random.seed(0)
    return 0


@pytest.fixture
def rng():
    """A NumPy generator for a test's own data, the same at every run."""
    return np.random.default_rng(0)


@pytest.fixture
def without_kernels():
    """Graphs on the CPU run on NumPy, with the bits of eager ops."""
    from gpunet import config

    config.set_cpu_kernels(False)
    yield
    config.set_cpu_kernels(True)


@pytest.fixture(params=[False, True], ids=["numpy", "kernels"])
def kernels(request):
    """Graphs on the CPU run on NumPy, then C++ kernels; returns whether they do."""
    from gpunet import config

    config.set_cpu_kernels(request.param)
    yield request.param
    config.set_cpu_kernels(True)
