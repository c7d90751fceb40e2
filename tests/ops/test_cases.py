"""Every primitive against its rows of the case tables."""

import numpy as np
import pytest

import gpunet.ops  # noqa: F401 - fills the registry
from gpunet.backend import emulator
from gpunet.backend.device import cuda_status
from gpunet.core.primitive import REGISTRY
from gpunet.testing import check_gradients
from gpunet.testing import ops as checks
from tests.ops.cases import CASES

ROWS = [
    pytest.param(name, row, id=f"{name}-{row!r}") for name in sorted(CASES) for row in CASES[name]
]
KERNELS = [p for p in ROWS if "cuda" in getattr(REGISTRY.get(p.values[0]), "rules", {})]


def test_every_primitive_has_a_case():
    assert sorted(REGISTRY.keys() - CASES.keys()) == []


def test_every_case_has_a_primitive():
    assert sorted(CASES.keys() - REGISTRY.keys()) == []


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_rules_agree(name, row):
    op, inputs = REGISTRY[name], row.inputs()
    checks.check_inference(op, inputs, row.attributes)
    checks.check_composite(op, inputs, row.attributes)
    checks.check_trace(op, inputs, row.attributes)
    checks.check_unchanged(op, inputs, row.attributes)


@pytest.mark.parametrize(("name", "row"), [p for p in ROWS if p.values[1].grad])
def test_gradients(name, row):
    op = REGISTRY[name]
    if op.rules.keys() & {"vjp", "composite"}:
        check_gradients(lambda *xs: op(*xs, **row.attributes), row.inputs())
    else:
        assert not any(y.node for y in checks.run(op, row.inputs(), row.attributes))


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_precision(name, row):
    for dtype in row.dtypes:
        checks.check_precision(REGISTRY[name], row.inputs(dtype), row.attributes, factor=row.tol)


@pytest.mark.parametrize(("name", "row"), KERNELS)
def test_emulator(name, row):
    op = REGISTRY[name]
    for dtype in row.dtypes:
        inputs = row.inputs(dtype)
        checks.check_precision(op, inputs, row.attributes, "emulator", row.tol)
        checks.check_precision(op, checks.strided(inputs), row.attributes, "emulator", row.tol)


@pytest.mark.parametrize(("name", "row"), KERNELS)
def test_the_order_of_threads_does_not_matter(name, row):
    op, inputs = REGISTRY[name], row.inputs("float32")
    forward = checks.run(op, inputs, row.attributes, "emulator")
    for order in ("reverse", "random"):
        with emulator.schedule(order, seed=1):
            again = checks.run(op, inputs, row.attributes, "emulator")
        for y, reference in zip(again, forward, strict=True):
            np.testing.assert_array_equal(y.numpy(), reference.numpy())


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "row"), ROWS)
def test_cuda(name, row):
    assert cuda_status()[0]
    for dtype in row.dtypes:
        inputs = row.inputs(dtype)
        checks.check_precision(REGISTRY[name], inputs, row.attributes, "cuda:0", row.tol)


def test_inputs_of_a_row_are_reproducible():
    row = next(iter(CASES.values()))[0]
    for x, again in zip(row.inputs(), row.inputs(), strict=True):
        np.testing.assert_array_equal(x, again)
