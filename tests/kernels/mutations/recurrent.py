"""Broken LSTM and GRU cells."""

from tests.kernels.mutations.mutation import mutation

MUTATIONS = [
    mutation("recurrent.cu", "k == 2 ? tanh(gate[k][v]) : sigmoid_of(gate[k][v]);",
             "k == 3 ? tanh(gate[k][v]) : sigmoid_of(gate[k][v]);", "lstm_gates"),
    mutation("recurrent.cu", "read<VEC>(output, h_before, state);",
             "read<VEC>(output, c_before, state);", "lstm_sequence"),
    mutation("recurrent.cu", "k == 1 ? dc[v] * before[v]", "k == 1 ? dc[v] * cell[v]",
             "lstm_gates_grad"),
    mutation("recurrent.cu", "carry_c[state + v] = dc[v] * gate[1][v] + skipped;",
             "carry_c[state + v] = dc[v] * gate[1][v];", "lstm_sequence_grad"),
    mutation("recurrent.cu", "tanh(gate[2][v] + gate[1][v] * product[v])",
             "tanh(gate[2][v] + product[v])", "gru_gates", "gru_sequence"),
    mutation("recurrent.cu", "      g[2][v] = d[v] * s;\n", "      g[2][v] = d[v];\n",
             "gru_gates_grad", "gru_sequence_grad"),
    mutation("recurrent.cu", "carry[state + v] = keep ? here * u : all;",
             "carry[state + v] = here * u;", "gru_sequence_grad"),
    mutation("recurrent.cu", "for (int v = 0; v < VEC; ++v) state[v] *= gate[v];", "",
             "gru_sequence"),
    mutation("recurrent.cu", "carry[state + v] += reached[v] * s;", "", "gru_sequence_grad"),
]  # fmt: skip
