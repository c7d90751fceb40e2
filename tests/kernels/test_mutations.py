"""Every op that has a kernel: a broken copy of the kernel does not pass the op's own rows."""

import re

import numpy as np
import pytest

import gpunet.ops  # noqa: F401 - fills the registry
from gpunet.backend import kernels, sources
from gpunet.core.primitive import REGISTRY
from gpunet.errors import KernelError
from gpunet.ops import elementwise_launch
from gpunet.testing import ops as checks
from tests.kernels.instantiations import launches
from tests.kernels.mutations import all_mutations
from tests.ops.cases import CASES


def pairs():
    """Each mutation with each of its primitives; all but the first of a file are thorough."""
    seen = set()
    for mutation in all_mutations():
        for name in mutation.primitives:
            marks = [pytest.mark.thorough] if mutation.file in seen else []
            seen.add(mutation.file)
            label = f"{mutation.file}-{name}-{mutation.new!r}"[:90]
            yield pytest.param(mutation, name, id=label, marks=marks)


POINTWISE = re.compile(r"(unary|binary|ternary)<([\w ]+), ([\w ]+), (\w+), \d+>")
# Functors that give the same numbers wherever the rows look.
ALIKE = [{"Maximum", "Fmax"}, {"Minimum", "Fmin"}]


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


@pytest.mark.parametrize(("mutation", "name"), list(pairs()))
def test_mutation_is_killed(mutation, name, monkeypatch):
    read = sources.read

    def read_broken(file, wanted_by="launch"):
        return mutation.text if file == mutation.file else read(file, wanted_by)

    monkeypatch.setattr(kernels, "_kernels", {})
    monkeypatch.setattr(kernels, "read", read_broken)
    monkeypatch.setattr(sources, "read", read_broken)
    assert is_caught(name), f"no row of {name!r} notices {mutation.new!r}; add one that does"


# -- functors: one stands in for another --------------------------------------------------------


def functors():
    """For each op and each functor it is launched with: others that take the same operands."""
    used = {
        name: {m.groups() for _, text in launched if (m := POINTWISE.fullmatch(text))}
        for name, launched in launches().items()
    }
    known = set().union(*used.values())
    for name, kinds in used.items():
        for functor in sorted({functor for *_, functor in kinds}):
            operands = {kind[:3] for kind in kinds if kind[3] == functor and "double" not in kind}
            alike = next((group for group in ALIKE if functor in group), {functor})
            others = {o for *_, o in known if all((*kind, o) in known for kind in operands)} - alike
            if others:
                yield name, functor, sorted(others)


FUNCTORS = [pytest.param(*facts, id="-".join(facts[:2])) for facts in functors()]


@pytest.mark.parametrize(("name", "functor", "others"), FUNCTORS)
def test_another_functor_is_noticed(name, functor, others, monkeypatch):
    after = [other for other in others if other > functor] + others
    launch = elementwise_launch.launch

    def launch_other(file, kernel, template, **how):
        swapped = tuple(after[0] if part == functor else part for part in template)
        launch(file, kernel, swapped, **how)

    monkeypatch.setattr(elementwise_launch, "launch", launch_other)
    assert is_caught(name), f"no row of {name!r} tells {functor} from {after[0]}"


def test_every_op_that_launches_a_kernel_has_a_mutation():
    mutated = {name for m in all_mutations() for name in m.primitives}
    mutated |= {param.values[0] for param in FUNCTORS}
    assert sorted(launches().keys() - mutated) == []


def test_a_mutation_that_changes_nothing_survives():
    assert not is_caught("exp")
