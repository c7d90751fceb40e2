"""Every op that has a kernel: a broken copy of the kernel does not pass the op's own rows."""

import numpy as np
import pytest

import gpunet.ops  # noqa: F401 - fills the registry
from gpunet.backend import kernels, sources
from gpunet.core.primitive import REGISTRY
from gpunet.errors import KernelError
from gpunet.testing import ops as checks
from tests.kernels.mutations import all_mutations
from tests.ops.cases import CASES

PAIRS = [
    pytest.param(mutation, name, id=f"{mutation.file}-{name}-{mutation.new!r}"[:90])
    for mutation in all_mutations()
    for name in mutation.primitives
]


def is_caught(name):
    """Whether a row of the primitive fails on the emulator, in the first of its dtypes."""
    for row in CASES[name]:
        inputs = row.inputs(row.dtypes[0]) if row.dtypes else row.inputs()
        try:
            with np.errstate(all="ignore"):
                checks.check_precision(REGISTRY[name], inputs, row.attributes, "emulator", row.tol)
        except (AssertionError, KernelError) as found:
            if "does not compile" in str(found):
                raise
            return True
    return False


@pytest.mark.parametrize(("mutation", "name"), PAIRS)
def test_mutation_is_killed(mutation, name, monkeypatch):
    read = sources.read

    def read_broken(file, wanted_by="launch"):
        return mutation.text if file == mutation.file else read(file, wanted_by)

    monkeypatch.setattr(kernels, "_kernels", {})
    monkeypatch.setattr(kernels, "read", read_broken)
    monkeypatch.setattr(sources, "read", read_broken)
    assert is_caught(name), f"no row of {name!r} notices {mutation.new!r}; add one that does"
