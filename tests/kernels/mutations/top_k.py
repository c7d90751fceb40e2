"""Broken selections of the largest elements."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("top_k.cu", "keys[j] == keys[i] && places[j] < places[i]",
             "keys[j] == keys[i] && places[j] > places[i]", "top_k"),
    mutation("top_k.cu", "rank += keys[j] > keys[i]", "rank += keys[j] < keys[i]", "top_k"),
    mutation("top_k.cu", "return static_cast<Key>(bits & kSign ? ~bits : bits | kSign);",
             "return static_cast<Key>(bits | kSign);", "top_k"),
    mutation("top_k.cu", "if (zero) return kSign;", "if (zero) return bits;", "top_k"),
    mutation("top_k.cu", "votes & ((1u << lane) - 1)", "votes & ((2u << lane) - 1)", "top_k"),
]  # fmt: skip
