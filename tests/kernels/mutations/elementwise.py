"""Broken forms of the elementwise kernels; `test_mutations.py` swaps functors for others."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    # The walk that all of them share: groups, rows of a grid, operands.
    mutation("pointwise.cuh", "columns - c < N ? static_cast<int>(columns - c) : N",
             "columns - c < N - 1 ? static_cast<int>(columns - c) : N - 1", "add", "where", "clip"),
    mutation("pointwise.cuh", "k < left ? to_float(from[k])",
             "k + 1 < left ? to_float(from[k])", "add", "where", "clip"),
    mutation("pointwise.cuh", "moves || !x ? number : to_float(*from);",
             "moves || !x ? number : to_float(*x);", "add", "where", "clip"),
    mutation("pointwise.cuh", "if (k < left) y[k]", "if (k + 1 < left) y[k]",
             "add", "where", "clip", "cast", "exp", "negative"),
    mutation("pointwise.cuh", "threadIdx.y; r < rows;", "threadIdx.y; r + 1 < rows;",
             "add", "where", "clip"),
    mutation("pointwise.cuh", "rest % middle * s1", "rest % length * s1", "add"),
    mutation("pointwise.cuh", "if (n1 == 1 && n2 == 1) return r * s0;",
             "if (n2 == 1) return r * s0;", "add", "where"),
    mutation("elementwise.cu", "load_group<N>(second, x2, b, b3, number,",
             "load_group<N>(second, x2, b, b3, Acc<T>(1),", "leaky_relu"),
    mutation("elementwise.cu", "load_group<N>(second, x2, b, b3, number, c, left, whole);",
             "load_group<N>(second, x2, a, b3, number, c, left, whole);", "add"),
    mutation("elementwise.cu", "load_group<N>(third, x3, start3, c3, number3,",
             "load_group<N>(third, x3, start3, c3, number2,", "elu"),
    mutation("elementwise.cu", "load_group<N>(second, x2, start2, b3,",
             "load_group<N>(second, x2, start3, b3,", "where"),
    mutation("scalar.cuh", "(BitwiseNot, ~x)", "(BitwiseNot, -x)", "bitwise_not"),
    mutation("scalar.cuh", "(LogicalNot, x == A(0))", "(LogicalNot, x != A(0))", "logical_not"),
]  # fmt: skip
