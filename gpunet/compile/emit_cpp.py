"""Loops of fused chains for the CPU: C++ text, compiled once for a machine, and its plan.

The text calls the functors of `cpu_kernels/scalar.h`, all steps of a chain for one element after
the other; the walk over operands is that of `cpu_kernels/elementwise.h`. It depends on the chain
and the dtypes only. `prepare` compiles all chains of a graph at once.
"""

import threading
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gpunet.backend import native
from gpunet.backend.native import Launch, Operand
from gpunet.compile.chain import Chain, Functor, functor, literal, named, value_dtypes
from gpunet.core.trace import Equation, Graph
from gpunet.ops.elementwise_native import broadcast_strides, collapsed

MOST_ARRAYS = 16  # ELEMENTWISE_INPUTS of `fused.h`
_MOST_AXES = 8
_TYPES = {
    np.dtype(t): name
    for t, name in (
        *((np.float32, "float"), (np.float64, "double"), (np.int32, "int32_t")),
        *((np.int64, "int64_t"), (np.uint8, "uint8_t"), (np.bool_, "bool")),
    )
}
# Functors of `scalar.h`, by the kinds of dtypes they take.
_ANY = named("Equal Identity LogicalAnd LogicalNot LogicalOr NotEqual Nonzero Where")
_NUMBERS = _ANY | named(
    "Absolute Add Clip Greater GreaterEqual Less LessEqual Maximum Minimum Multiply Negative "
    "Relu Relu6 ReluGrad Sign Square Subtract"
)
# Elementary functions: a thread is worth waking for fewer elements.
_COSTLY = named(
    "Celu Elu Erf Exp Expm1 Gelu GeluGrad GeluTanh GeluTanhGrad Log Log1p LogSigmoid Mish "
    "Sigmoid Silu SiluGrad Softplus Tanh"
)
_FLOATS = (
    _NUMBERS
    | _COSTLY
    | named(
        "Ceil Floor Fmax Fmin HardSigmoid HardSilu Isfinite Isinf Isnan LeakyRelu Reciprocal "
        "Rsqrt SigmoidGrad Softsign Sqrt TrueDivide Trunc"
    )
)
_KNOWN = {"f": _FLOATS, "i": _NUMBERS, "b": _ANY, "u": named("Identity Nonzero Where")}

_addresses: dict["Loop", int] = {}
_compiling = threading.Lock()


class Loop(NamedTuple):
    """What the text of a loop depends on.

    Attributes:
        chain: The chain.
        dtypes: Of its inputs.
        numbers: For each input, whether it is one number for all elements.
    """

    chain: Chain
    dtypes: tuple[np.dtype, ...]
    numbers: tuple[bool, ...]


def knows(eq: Equation) -> bool:
    """Tells whether a loop can have an elementwise equation as a step."""
    dtypes = [s.dtype for s in (*eq.inputs, *eq.outputs)]
    return _functor(eq.op.name, eq.attributes, dtypes) is not None


def _functor(name, attributes, dtypes) -> Functor | None:
    """The functor of a step of these operands and this result, if C++ has it for them."""
    kind = dtypes[-2]
    found = functor(name, attributes, dtypes[0])
    if found is None or any(dtype not in _TYPES for dtype in dtypes):
        return None
    return found if found.name in _KNOWN[kind.kind] else None


def prepare(graph: Graph) -> None:
    """Compiles the loops of all fused equations of a graph that are not yet, as one text.

    Args:
        graph: What `fuse_elementwise` returned.
    """
    chains = [(eq.op.chain, eq.inputs) for eq in graph.equations if hasattr(eq.op, "chain")]
    loops = [_loop(chain, inputs) for chain, inputs in chains]
    compile_loops([loop for loop in dict.fromkeys(loops) if is_emitted(loop)])


def plan(chain: Chain, inputs: list[Operand], outputs: list[Operand]) -> Launch | None:
    """Plans the loop of a chain; `None` for dtypes or layouts that it does not take."""
    loop, shape = _loop(chain, inputs), outputs[0].shape
    walked = [x for x in inputs if x.size != 1]
    every = [broadcast_strides(x, shape) for x in (*walked, outputs[0])]
    lengths, (*strides, _) = collapsed(shape, every)
    if not is_emitted(loop) or len(lengths) > _MOST_AXES or len(walked) > MOST_ARRAYS:
        return None
    if loop not in _addresses:
        compile_loops([loop])
    sizes = (outputs[0].size, len(lengths), *lengths, *[s for steps in strides for s in steps])
    # Of one dtype: C++ may take for granted that writing one type changes no other.
    in_place = tuple(
        (o, i)
        for o, y in enumerate(outputs)
        for i, x in enumerate(inputs)
        if x.shape == shape and x.dtype == y.dtype and x.contiguous
    )
    return Launch(_addresses[loop], sizes, in_place=in_place, strided=True)


def is_emitted(loop: Loop) -> bool:
    """Tells whether C++ has a functor for each step of a loop."""
    return _calls(loop) is not None


def _loop(chain, inputs):
    return Loop(chain, tuple([x.dtype for x in inputs]), tuple([x.size == 1 for x in inputs]))


def compile_loops(loops: Iterable[Loop]) -> None:
    """Compiles loops, those that are not yet as one text."""
    with _compiling:
        missing = [loop for loop in loops if loop not in _addresses]
        if missing:
            library = native.load(source(missing), "fused.cpp")
            for number, loop in enumerate(missing):
                _addresses[loop] = native.function_address(library, f"fused_{number}")


# -- the text -------------------------------------------------------------------------------------


def source(loops: Iterable[Loop]) -> str:
    """Returns C++ with a kernel `fused_<number>` for each loop."""
    kernels = [_kernel(f"fused_{i}", loop) for i, loop in enumerate(loops)]
    return "\n".join(['#include "fused.h"\n', "using namespace elementwise;\n", *kernels])


def _kernel(name, loop):
    chain, values = loop.chain, value_dtypes(loop.chain, loop.dtypes)
    types = [_TYPES[dtype] for dtype in values]
    # Bools in arrays are bytes: of bools, g++ makes no vectors.
    stored = ["uint8_t" if t == "bool" else t for t in types]
    walked = [i for i, number in enumerate(loop.numbers) if not number]
    setup = []
    for i, number in enumerate(loop.numbers):
        if number:
            setup.append(f"const {types[i]} v{i} = *static_cast<const {types[i]}*>(all[{i}]);")
        else:
            setup.append(f"auto x{i} = static_cast<const {stored[i]}*>(in[{walked.index(i)}]);")
    first = stored[chain.results[0]]
    setup.append(f"auto y0 = static_cast<{first}*>(out);")
    if len(chain.results) > 1:
        setup.append(f"int64_t at = y0 - static_cast<{first}*>(all[{chain.arity}]);")
    for j, i in enumerate(chain.results[1:], 1):
        setup.append(f"auto y{j} = static_cast<{stored[i]}*>(all[{chain.arity + j}]) + at;")
    body = [f"const {types[i]} v{i} = x{i}[i]{' != 0' * (types[i] == 'bool')};" for i in walked]
    body += _calls(loop) or []
    body += [f"y{j}[i] = v{i};" for j, i in enumerate(chain.results)]
    functors = {functor(s.op.name, dict(s.attributes), values[s.operands[0]]) for s in chain.steps}
    return _TEXT.format(
        name=name,
        title=" ".join(step.op.name for step in chain.steps),
        setup="\n    ".join(setup),
        body="\n        ".join(body),
        grain="COSTLY" if any(f is not None and f.name in _COSTLY for f in functors) else "CHEAP",
        operands="".join(f"{{{i}, sizeof({types[i]})}}, " for i in walked),
        result=f"{{{chain.arity}, sizeof({first})}}",
    )


_TEXT = """// {title}
static void {name}_loop(void* const* all, const void* const* in, void* out, int64_t n) {{
    {setup}
#pragma GCC ivdep  // a result may be written over an operand, element by element
    for (int64_t i = 0; i < n; ++i) {{
        {body}
    }}
}}
KERNEL({name}) {{
    return run_fused(arrays, sizes, {grain}, {name}_loop, {{{operands}{result}}});
}}
"""


def _calls(loop) -> list[str] | None:
    """The lines that compute the steps; `None` if C++ has no functor for one of them."""
    values = value_dtypes(loop.chain, loop.dtypes)
    lines = []
    for at, step in enumerate(loop.chain.steps, loop.chain.arity):
        taken = [values[i] for i in step.operands]
        found = _functor(step.op.name, dict(step.attributes), [*taken, values[at]])
        if found is None:
            return None
        operands = [f"v{i}" for i in step.operands]
        operands += [literal(x, taken[0]) for x in found.numbers]
        call = f"{found.name}()({', '.join(operands)})"
        if found.name == "Identity":
            call = f"static_cast<{_TYPES[values[at]]}>({operands[0]})"
        lines.append(f"const {_TYPES[values[at]]} v{at} = {call};")
    return lines
