"""Every C++ kernel against NumPy's rule, on the rows of the case tables; each row that fits one."""

import numpy as np
import pytest

from gpunet.backend import native
from gpunet.core.primitive import REGISTRY
from gpunet.testing import ops as checks
from gpunet.testing.numbers import assert_close
from tests.ops.cases import CASES

NATIVE = sorted(name for name, op in REGISTRY.items() if "native" in op.rules)
ROWS = [
    pytest.param(name, row, id=f"{name}-{row!r}") for name in NATIVE for row in CASES.get(name, ())
]

if reason := native.reason_missing():
    pytest.fail(f"C++ kernels cannot be tested here: {reason}", pytrace=False)


def operand(x):
    return native.Operand(x.shape, x.dtype, tuple(s // x.itemsize for s in x.strides))


class Guarded:
    """Memory with bytes before and after it that nobody may change."""

    def __init__(self, nbytes):
        self.all = np.full(nbytes + 3 * 64, 0xA5, np.uint8)
        self.start = 64 + -self.all.ctypes.data % 64
        self.end = self.start + nbytes

    def array(self, shape, dtype):
        return self.all[self.start : self.end].view(dtype).reshape(shape)

    def untouched(self):
        return (self.all[: self.start] == 0xA5).all() and (self.all[self.end :] == 0xA5).all()


def launch(name, inputs, attributes):
    """Runs the kernel of a primitive; returns the results, or None where NumPy's rule serves."""
    inputs = [np.asarray(x) for x in inputs]
    results = checks.run(REGISTRY[name], inputs, attributes)
    guards = [Guarded(y.data.nbytes) for y in results]
    outputs = [g.array(y.shape, y.dtype) for g, y in zip(guards, results, strict=True)]
    for y in outputs:  # what a kernel forgets to write must not look right
        y.fill(True if y.dtype.kind == "b" else 77)
    rule = REGISTRY[name].rules["native"]
    plan = rule([operand(x) for x in inputs], [operand(y) for y in outputs], **attributes)
    if plan is None:
        return None
    if not plan.strided:
        inputs = [np.ascontiguousarray(x).reshape(x.shape) for x in inputs]
    before = [x.copy() for x in inputs]
    guards.append(Guarded(plan.scratch))
    scratch = guards[-1].array(-1, np.uint8)
    assert native.call(plan, inputs, outputs, scratch) == 0
    assert all(g.untouched() for g in guards), "written outside of the results or the scratch"
    for x, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, copy)
    return outputs


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_kernel_computes_what_numpy_does(name, row):
    if row.dtypes and "float32" not in row.dtypes:
        return
    inputs = row.inputs("float32")
    wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs]
    references = checks.run(REGISTRY[name], wide, row.attributes)
    for given in (inputs, checks.strided(inputs)):
        outputs = launch(name, given, row.attributes)
        for y, reference in zip(outputs or (), references, strict=bool(outputs)):
            precision = "float32" if y.dtype.kind == "f" else "bool"
            assert_close(y, reference.numpy(), precision, row.tol)


@pytest.mark.parametrize("name", NATIVE)
def test_some_row_reaches_the_kernel(name):
    rows = [row for row in CASES.get(name, ()) if not row.dtypes or "float32" in row.dtypes]
    assert any(launch(name, row.inputs("float32"), row.attributes) is not None for row in rows)
