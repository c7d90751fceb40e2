"""Broken gathers, scatters and one-hot encodings."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("index.cu", "c = start; c < inner;", "c = start; c + VEC < inner;",
             "take", "gather_rows", "gather_item"),
    mutation("index.cu", "j = r - o * count;", "j = r % length;", "take"),
    mutation("index.cu", "(first ? 0 : places[i] * length)", "(first ? 0 : places[i])",
             "gather_rows", "gather_item", "scatter_item", "scatter_update"),
    mutation("index.cu", "y[i] = x[(o * length + wrapped", "y[i] = x[(0 * length + wrapped",
             "take_along_axis"),
    mutation("index.cu", "place = (o * length + wrapped", "place = (0 * length + wrapped",
             "add_along_axis"),
    mutation("index.cu", "x[r * columns + label]", "x[label]", "pick"),
    mutation("index.cu", "if (k == classes) k = 0, ++o;", "if (k == classes) k = 0;",
             "one_hot", "place"),
    mutation("scatter.cu", "last < n && keys[last] == key;", "false;",
             "index_add", "scatter_item", "scatter_update", "add_along_axis"),
    mutation("scatter.cu", "          began_before = false;\n", "", "index_add"),
    mutation("scatter.cu", "for (; end < n && keys[end] == key;", "for (; false;", "index_add"),
    mutation("scatter.cu", "total = F()(total, pieces[a]);", "total = pieces[a];", "index_add"),
    mutation("scatter.cu", "__popc(peers & ((1u << lane) - 1))", "__popc(peers >> lane) - 1",
             "scatter_update"),  # not stable: the last writer is another one
    mutation("scatter.cu", "onto ? F()(to_float(out[v]), total[v]) : total[v]", "total[v]",
             "scatter_update"),
]  # fmt: skip
