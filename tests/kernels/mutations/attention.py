"""Broken attention: in float32, on tensor cores, and in what both share."""

from tests.kernels.mutations.mutation import mutation

BOTH = ("attention", "attention_grad")
FRAGMENTS, TENSOR_CORE = "attention_fragments.cuh", "attention_tensor_core.cu"

MUTATIONS = [
    # shared: the causal triangle, the mask, lost rows, dropout, groups of heads
    mutation("attention.cuh", "key + column > query + row)", "key + column >= query + row)", *BOTH),
    mutation("attention.cuh", "key + COLUMNS - 1 > query)", "key > query + ROWS - 1)", "attention"),
    mutation("attention.cuh", "return causal && key >= query + rows;",
             "return causal && key + rows >= query + rows;", "attention"),
    mutation("attention.cuh", "bits.allowed[row][column / 8] >> column % 8",
             "bits.allowed[row][column / 8] >> (7 - column % 8)", "attention_grad"),
    mutation("attention.cuh", "pairs.mask + (query + row) * pairs.mask_row",
             "pairs.mask + row * pairs.mask_row", "attention_grad"),
    mutation("attention.cuh", "head * a.mask_head", "head * a.mask_batch", "attention"),
    mutation("attention.cuh", "1.0f / static_cast<float>(pairs.keys), 0",
             "1.0f / static_cast<float>(pairs.queries), 0", "attention_grad"),
    mutation("attention.cuh", "start % 8 + column % 8", "column % 8", *BOTH),
    mutation("attention.cuh", "head / (a.heads / a.key_heads)", "head % a.key_heads", "attention"),
    # float32
    mutation("attention.cu", "    __syncwarp();\n    add_product<M, KEYS, D>(p_tile",
             "    add_product<M, KEYS, D>(p_tile", "attention"),
    mutation("attention.cu", "if (!a.mask || !__syncthreads_or(lost)) break;", "break;",
             "attention"),
    mutation("attention.cu", "total[i] = total[i] * shrink + sum;", "total[i] += sum;",
             "attention"),
    mutation("attention.cu", "delta[out] = sum - dlse[out];", "delta[out] = sum + dlse[out];",
             "attention_grad"),
    mutation("attention.cu", "!(a.mask && __syncthreads_or(is_lost(my_lse)))", "true",
             "attention_grad"),
    mutation("attention.cu", "head < (at.key_head + 1) * group", "head < at.key_head * group + 1",
             "attention_grad"),
    # tensor cores
    mutation(FRAGMENTS, "2 * k + lane / 8 % 2));\n  b[0][0] = r[0]",
             "2 * k + lane / 16));\n  b[0][0] = r[0]", "attention"),
    mutation(FRAGMENTS, "const bool exists = first + row < length && piece * 8 < width;",
             "const bool exists = first + row < length;", "attention_grad"),
    mutation(FRAGMENTS, "p[m][2 * k + i / 2][i % 2 * 2]", "p[m][2 * k + i % 2][i / 2 * 2]",
             "attention_grad"),
    mutation(FRAGMENTS, "total[m][i % 2] * shrink + sum", "total[m][i % 2] + sum", "attention"),
    mutation(FRAGMENTS, "(highest + log2f(sum)) * kLn2", "highest + log2f(sum)", "attention"),
    mutation(TENSOR_CORE, "next = stage ^ 1, query", "next = stage, query", "attention_grad"),
    mutation(TENSOR_CORE, "return (skipped + step % tiles) * ROWS;", "return step % tiles * ROWS;",
             "attention_grad"),
]  # fmt: skip
