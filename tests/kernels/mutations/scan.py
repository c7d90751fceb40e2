"""Broken cumulative sums and products."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("scan.cu", "if (lane >= step) value = f(before, value);",
             "if (lane > step) value = f(before, value);", "cumsum", "cumprod"),
    mutation("scan.cu", "if (w == warp) before = total;", "if (w + 1 == warp) before = total;",
             "cumsum"),
    mutation("scan.cu", "carried = f(carried, total);", "carried = total;", "cumsum"),
    mutation("scan.cu", "p > 0 ? before[piece - 1]", "p > 1 ? before[piece - 1]", "cumsum"),
    mutation("scan.cu", "total = f(total, to_float(x[start + k * columns]));",
             "total = f(total, to_float(x[start + k]));", "cumsum", "cumprod"),
    mutation("scan.cu", "if (lane == 31) of_warp[warp] = value;\n",
             "if (lane == 30) of_warp[warp] = value;\n", "cumsum", "cumprod"),
    mutation("scan.cu", "const long long from = piece % pieces * length;",
             "const long long from = piece * length;", "cumsum"),
]  # fmt: skip
