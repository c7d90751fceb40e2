"""One row for each layer and each of its options that changes what it computes.

`case(name, build, *inputs)`: `build(L)` makes the layer from gpunet's or Keras's `layers`; inputs
are shapes with the batch, or arrays. What a row may say by keyword:

* `many`: the inputs are passed as one list.
* `training`: also compare with `training=True`, where nothing is random.
* `gradients`: whether to compare gradients (not for integer inputs or results).
* `mask`: lengths of the sequences in the batch; the input gets a mask.
* `call`: further keyword arguments of the call.
* `tol`: factor of the tolerances.
* `keras`: whether Keras has the layer.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpunet import cuda, saving


@dataclass
class Case:
    name: str
    build: Any
    inputs: tuple
    many: bool = False
    training: bool = False
    gradients: bool = True
    mask: tuple | None = None
    call: dict = field(default_factory=dict)
    tol: float = 1.0
    keras: bool = True

    def __repr__(self):
        return self.name

    def arrays(self, seed=0):
        """The inputs as arrays; shapes give normal numbers."""
        rng = np.random.default_rng(seed)
        return [
            rng.normal(size=x).astype("float32") if isinstance(x, tuple) else x for x in self.inputs
        ]

    def masks(self, steps):
        """The mask of the lengths."""
        return np.arange(steps)[None, :] < np.array(self.mask)[:, None]


def case(name, build, *inputs, **options):
    return Case(name, build, inputs, **options)


SQUARE = saving.register_keras_serializable("tests")(
    cuda.elementwise(
        "T x, float a", "T y", "y = a * x * x", lambda x, *, a=1.0: a * x * x, name="square"
    )
)


def _ints(low, high, *shape):
    return np.random.default_rng(1).integers(low, high, shape).astype("int32")


def _with_padding(*shape):
    x = _ints(1, 9, *shape)
    x[:, -2:] = 0
    return x


def _rounded(*shape):
    x = np.random.default_rng(2).normal(size=shape).astype("float32")
    x[0, 2:] = 0.0
    x[1, 1] = 0.0
    return x


SEQUENCE, IMAGE, VOLUME = (2, 6, 3), (2, 7, 6, 4), (2, 5, 4, 6, 2)
CONSTRAINED = {
    "kernel_regularizer": "l2",
    "bias_regularizer": "l1",
    "activity_regularizer": "l2",
    "kernel_constraint": "max_norm",
    "bias_constraint": "non_neg",
}
AFFINE = {
    "beta_regularizer": "l2",
    "gamma_regularizer": "l1",
    "beta_constraint": "non_neg",
    "gamma_constraint": "max_norm",
}
FIRST = {"data_format": "channels_first"}
RNN_OPTIONS = {
    "kernel_regularizer": "l2",
    "recurrent_regularizer": "l2",
    "bias_regularizer": "l1",
    "kernel_constraint": "max_norm",
    "recurrent_constraint": "max_norm",
    "bias_constraint": "non_neg",
}

DENSE = [
    case("dense", lambda L: L.Dense(4), (3, 5)),
    case("dense_relu", lambda L: L.Dense(4, "relu", **CONSTRAINED), (3, 5)),
    case("dense_softmax_3d", lambda L: L.Dense(4, "softmax", use_bias=False), (2, 3, 5)),
    case("dense_gelu", lambda L: L.Dense(4, "gelu"), (3, 5)),
    case("dense_silu", lambda L: L.Dense(4, "silu"), (3, 5)),
    case("dense_tanh", lambda L: L.Dense(1, "tanh"), (3, 5)),
    case("dense_frozen", lambda L: L.Dense(4, trainable=False), (3, 5)),
    case(
        "einsum_dense", lambda L: L.EinsumDense("abc,cd->abd", (None, 8), bias_axes="d"), (2, 4, 3)
    ),
    case("einsum_dense_left", lambda L: L.EinsumDense("...x,xy->...y", 5, "tanh", "y"), (2, 4, 3)),
    case(
        "einsum_dense_two",
        lambda L: L.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de"),
        (2, 4, 3),
    ),
    case("einsum_dense_right", lambda L: L.EinsumDense("ab...,bc->ac...", 5), (2, 4, 3)),
    case("embedding", lambda L: L.Embedding(9, 4), _ints(0, 9, 3, 5)),
    case(
        "embedding_mask",
        lambda L: L.Embedding(9, 4, "normal", "l2", "non_neg", mask_zero=True),
        _with_padding(3, 5),
    ),
]
BASIC = [
    case("identity", lambda L: L.Identity(), (3, 5)),
    case("masking", lambda L: L.Masking(), _rounded(2, 4, 3)),
    case("masking_value", lambda L: L.Masking(mask_value=1.0), np.ones((2, 3, 2), "float32")),
    case("flatten", lambda L: L.Flatten(), IMAGE),
    case("flatten_first", lambda L: L.Flatten("channels_first"), IMAGE),
    case("flatten_vector", lambda L: L.Flatten(), (3,)),
    case("flatten_ints", lambda L: L.Flatten(), _ints(0, 9, 2, 3, 4), gradients=False),
    case("reshape", lambda L: L.Reshape((4, 6)), (2, 3, 8)),
    case("reshape_unknown", lambda L: L.Reshape((-1, 4)), (2, 3, 8)),
    case("permute", lambda L: L.Permute((2, 3, 1)), IMAGE),
    case("repeat_vector", lambda L: L.RepeatVector(3), (2, 5)),
    case("rescaling", lambda L: L.Rescaling(0.5, 1.0), (2, 5)),
    case("rescaling_list", lambda L: L.Rescaling([0.5, 2.0], [1.0, -1.0]), (3, 2)),
    case("rescaling_ints", lambda L: L.Rescaling(1 / 9), _ints(0, 9, 2, 3), gradients=False),
    case("normalization", lambda L: L.Normalization(), (4, 3)),
    case("normalization_given", lambda L: L.Normalization(mean=2.0, variance=4.0), (4, 3)),
    case(
        "normalization_axes",
        lambda L: L.Normalization((1, 2), [[1.0, 2.0]], [[4.0, 9.0]], invert=True),
        (4, 1, 2),
    ),
    case("activity_regularization", lambda L: L.ActivityRegularization(0.1, 0.2), (3, 5)),
]
ACTIVATIONS = [
    case("activation", lambda L: L.Activation("tanh"), (3, 5)),
    case("activation_softmax", lambda L: L.Activation("softmax"), (3, 5)),
    case("relu", lambda L: L.ReLU(), (3, 5)),
    case("relu_options", lambda L: L.ReLU(1.0, 0.2, 0.1), (5, 9)),
    case("leaky_relu", lambda L: L.LeakyReLU(0.2), (3, 5)),
    case("elu", lambda L: L.ELU(0.7), (3, 5)),
    case("prelu", lambda L: L.PReLU(alpha_regularizer="l2", alpha_constraint="non_neg"), (3, 5)),
    case("prelu_shared", lambda L: L.PReLU("ones", shared_axes=[1, 2]), IMAGE),
    case("softmax", lambda L: L.Softmax(), (3, 5)),
    case("softmax_axes", lambda L: L.Softmax(axis=(1, 2)), (2, 3, 4)),
    case("gelu", lambda L: L.GELU(approximate=True), (3, 5), keras=False),
    case("kernel", lambda L: L.Kernel(SQUARE, a=0.5), (3, 5), keras=False),
]
DROPOUT = [
    case("dropout", lambda L: L.Dropout(0.5, seed=1), (3, 5)),
    case("dropout_shape", lambda L: L.Dropout(0.5, noise_shape=(None, 1)), (3, 5)),
    case("dropout_none", lambda L: L.Dropout(0.0), (3, 5), training=True),
    case("spatial_dropout1d", lambda L: L.SpatialDropout1D(0.5), SEQUENCE),
    case("spatial_dropout2d", lambda L: L.SpatialDropout2D(0.5), IMAGE),
    case("spatial_dropout3d", lambda L: L.SpatialDropout3D(0.5, "channels_first"), VOLUME),
    case("gaussian_noise", lambda L: L.GaussianNoise(0.5), (3, 5)),
    case("gaussian_dropout", lambda L: L.GaussianDropout(0.5), (3, 5)),
    case("alpha_dropout", lambda L: L.AlphaDropout(0.5), (3, 5)),
]
CONV = [
    case("conv1d", lambda L: L.Conv1D(4, 3), SEQUENCE),
    case("conv1d_causal", lambda L: L.Conv1D(4, 2, padding="causal", dilation_rate=2), SEQUENCE),
    case("conv1d_first", lambda L: L.Conv1D(4, 2, 2, padding="same", **FIRST), SEQUENCE),
    case("conv2d", lambda L: L.Conv2D(4, 3, activation="relu", **CONSTRAINED), IMAGE),
    case("conv2d_strides", lambda L: L.Conv2D(4, (3, 2), (2, 1), "same", use_bias=False), IMAGE),
    case("conv2d_dilated", lambda L: L.Conv2D(2, 2, dilation_rate=(2, 3)), IMAGE),
    case("conv2d_groups", lambda L: L.Conv2D(6, 3, groups=2), IMAGE),
    case("conv2d_first", lambda L: L.Conv2D(3, 2, activation="tanh", **FIRST), IMAGE),
    case("conv3d", lambda L: L.Conv3D(3, 2, 2), VOLUME),
    case("conv1d_transpose", lambda L: L.Conv1DTranspose(4, 3, 2), SEQUENCE),
    case("conv2d_transpose", lambda L: L.Conv2DTranspose(3, 3, 2, "same"), IMAGE),
    case("conv2d_transpose_pad", lambda L: L.Conv2DTranspose(3, 3, 2, "valid", 1), IMAGE),
    case("conv2d_transpose_first", lambda L: L.Conv2DTranspose(3, 3, **FIRST), IMAGE),
    case("conv3d_transpose", lambda L: L.Conv3DTranspose(2, 2, activation="relu"), VOLUME),
    case("depthwise_conv1d", lambda L: L.DepthwiseConv1D(3, depth_multiplier=2), SEQUENCE),
    case("depthwise_conv2d", lambda L: L.DepthwiseConv2D(3, 2, "same", activation="relu"), IMAGE),
    case("depthwise_conv2d_first", lambda L: L.DepthwiseConv2D(2, **FIRST), IMAGE),
    case("separable_conv1d", lambda L: L.SeparableConv1D(4, 3, padding="same"), SEQUENCE),
    case("separable_conv2d", lambda L: L.SeparableConv2D(3, 3, depth_multiplier=2), IMAGE),
]
POOLING = [
    case("max_pooling1d", lambda L: L.MaxPooling1D(), SEQUENCE),
    case("max_pooling2d", lambda L: L.MaxPooling2D(), IMAGE),
    case("max_pooling2d_same", lambda L: L.MaxPooling2D(3, 2, "same"), IMAGE),
    case("max_pooling2d_first", lambda L: L.MaxPooling2D((2, 3), 1, **FIRST), IMAGE),
    case("max_pooling3d", lambda L: L.MaxPooling3D(), VOLUME),
    case("average_pooling1d", lambda L: L.AveragePooling1D(2, padding="same"), SEQUENCE),
    case("average_pooling2d", lambda L: L.AveragePooling2D(3, 2, "same"), IMAGE),
    case("average_pooling2d_first", lambda L: L.AveragePooling2D(2, **FIRST), IMAGE),
    case("average_pooling3d", lambda L: L.AveragePooling3D((2, 2, 3)), VOLUME),
    case("global_max_pooling1d", lambda L: L.GlobalMaxPooling1D(), SEQUENCE),
    case("global_max_pooling2d", lambda L: L.GlobalMaxPooling2D(keepdims=True), IMAGE),
    case("global_max_pooling3d", lambda L: L.GlobalMaxPooling3D("channels_first"), VOLUME),
    case("global_average_pooling1d", lambda L: L.GlobalAveragePooling1D(), SEQUENCE),
    case(
        "global_average_pooling1d_mask", lambda L: L.GlobalAveragePooling1D(), SEQUENCE, mask=(4, 2)
    ),
    case("global_average_pooling2d", lambda L: L.GlobalAveragePooling2D(**FIRST), IMAGE),
    case("global_average_pooling3d", lambda L: L.GlobalAveragePooling3D(keepdims=True), VOLUME),
]
PADDING = [
    case("zero_padding1d", lambda L: L.ZeroPadding1D((1, 2)), SEQUENCE),
    case("zero_padding2d", lambda L: L.ZeroPadding2D(((1, 0), (2, 1))), IMAGE),
    case("zero_padding2d_first", lambda L: L.ZeroPadding2D((1, 2), **FIRST), IMAGE),
    case("zero_padding3d", lambda L: L.ZeroPadding3D(1), VOLUME),
    case("cropping1d", lambda L: L.Cropping1D((1, 2)), SEQUENCE),
    case("cropping2d", lambda L: L.Cropping2D(((1, 0), (2, 1))), IMAGE),
    case("cropping2d_first", lambda L: L.Cropping2D(1, "channels_first"), (2, 4, 5, 6)),
    case("cropping3d", lambda L: L.Cropping3D(), VOLUME),
    case("up_sampling1d", lambda L: L.UpSampling1D(3), SEQUENCE),
    case("up_sampling2d", lambda L: L.UpSampling2D((2, 3)), IMAGE),
    case("up_sampling2d_bilinear", lambda L: L.UpSampling2D(2, interpolation="bilinear"), IMAGE),
    case("up_sampling2d_first", lambda L: L.UpSampling2D(**FIRST), IMAGE),
    case("up_sampling3d", lambda L: L.UpSampling3D(2), VOLUME),
]
NORMALIZATION = [
    case("batch_normalization", lambda L: L.BatchNormalization(), (5, 3), training=True),
    case("batch_normalization_2d", lambda L: L.BatchNormalization(**AFFINE), IMAGE, training=True),
    case(
        "batch_normalization_axis",
        lambda L: L.BatchNormalization(1, 0.9, 0.01, center=False, scale=False),
        IMAGE,
        training=True,
    ),
    case(
        "batch_normalization_mask",
        lambda L: L.BatchNormalization(),
        SEQUENCE,
        training=True,
        mask=(4, 2),
        tol=5,
    ),
    case(
        "batch_normalization_frozen",
        lambda L: L.BatchNormalization(trainable=False),
        (5, 3),
        training=True,
    ),
    case("layer_normalization", lambda L: L.LayerNormalization(**AFFINE), (3, 5)),
    case("layer_normalization_axes", lambda L: L.LayerNormalization((1, 2), 0.1), (3, 4, 5)),
    case("layer_normalization_plain", lambda L: L.LayerNormalization(1, scale=False), (3, 4, 5)),
    case("rms_normalization", lambda L: L.RMSNormalization(), (3, 5)),
    case("group_normalization", lambda L: L.GroupNormalization(2, **AFFINE), IMAGE),
    case("group_normalization_axis", lambda L: L.GroupNormalization(2, 1), (2, 4, 3, 3)),
    case("instance_normalization", lambda L: L.GroupNormalization(-1, center=False), IMAGE),
    case("unit_normalization", lambda L: L.UnitNormalization(), (3, 5)),
    case("unit_normalization_axes", lambda L: L.UnitNormalization((1, 2)), (3, 4, 5)),
]
MERGING = [
    case("add", lambda L: L.Add(), (3, 5), (3, 5), (3, 5), many=True),
    case("add_ranks", lambda L: L.Add(), (2, 3, 4), (2, 4), many=True),
    case("subtract", lambda L: L.Subtract(), (3, 5), (3, 1), many=True),
    case("multiply", lambda L: L.Multiply(), (3, 5), (3, 5), many=True),
    case("average", lambda L: L.Average(), (3, 5), (3, 5), many=True),
    case("maximum", lambda L: L.Maximum(), (3, 5), (3, 5), many=True),
    case("minimum", lambda L: L.Minimum(), (3, 5), (3, 5), many=True),
    case("concatenate", lambda L: L.Concatenate(), (3, 5), (3, 2), many=True),
    case("concatenate_axis", lambda L: L.Concatenate(1), (3, 5, 2), (3, 1, 2), many=True),
    case("dot", lambda L: L.Dot((2, 1)), (5, 2, 3), (5, 3, 4), many=True),
    case("dot_vectors", lambda L: L.Dot(-1, normalize=True), (5, 3), (5, 3), many=True),
    *[
        case(
            f"{name.lower()}_mask",
            lambda L, n=name: getattr(L, n)(),
            SEQUENCE,
            SEQUENCE,
            many=True,
            mask=(4, 2),
        )
        for name in ("Add", "Multiply", "Maximum", "Concatenate")
    ],
]
RECURRENT = [
    case("lstm", lambda L: L.LSTM(4), SEQUENCE),
    case("lstm_sequences", lambda L: L.LSTM(4, return_sequences=True, return_state=True), SEQUENCE),
    case("lstm_mask", lambda L: L.LSTM(4, return_sequences=True), SEQUENCE, mask=(4, 2)),
    case(
        "lstm_options",
        lambda L: L.LSTM(4, use_bias=False, go_backwards=True, **RNN_OPTIONS),
        SEQUENCE,
    ),
    case(
        "lstm_hard", lambda L: L.LSTM(4, "relu", "hard_sigmoid", unit_forget_bias=False), SEQUENCE
    ),
    case(
        "lstm_hard_mask", lambda L: L.LSTM(4, "relu", return_sequences=True), SEQUENCE, mask=(4, 2)
    ),
    case("lstm_dropout", lambda L: L.LSTM(4, dropout=0.2, recurrent_dropout=0.1, seed=1), SEQUENCE),
    case("gru", lambda L: L.GRU(4), SEQUENCE),
    case("gru_sequences", lambda L: L.GRU(4, return_sequences=True, return_state=True), SEQUENCE),
    case("gru_before", lambda L: L.GRU(4, reset_after=False, **RNN_OPTIONS), SEQUENCE),
    case("gru_mask", lambda L: L.GRU(4, go_backwards=True), SEQUENCE, mask=(4, 2)),
    case("gru_hard", lambda L: L.GRU(4, "elu", "hard_sigmoid"), SEQUENCE),
    case("gru_hard_before", lambda L: L.GRU(4, "elu", reset_after=False, use_bias=False), SEQUENCE),
    case("simple_rnn", lambda L: L.SimpleRNN(4, **RNN_OPTIONS), SEQUENCE),
    case("simple_rnn_mask", lambda L: L.SimpleRNN(4, return_sequences=True), SEQUENCE, mask=(4, 2)),
    case("rnn", lambda L: L.RNN(L.GRUCell(4), return_state=True, go_backwards=True), SEQUENCE),
    case(
        "rnn_zero_mask",
        lambda L: L.RNN(L.SimpleRNNCell(4), return_sequences=True, zero_output_for_mask=True),
        SEQUENCE,
        mask=(4, 2),
    ),
    case("rnn_stacked", lambda L: L.RNN([L.LSTMCell(4), L.SimpleRNNCell(3)]), SEQUENCE),
    case(
        "stacked_rnn_cells",
        lambda L: L.RNN(L.StackedRNNCells([L.GRUCell(4), L.LSTMCell(3)]), return_sequences=True),
        SEQUENCE,
    ),
    case("bidirectional", lambda L: L.Bidirectional(L.LSTM(4, name="a"), name="b"), SEQUENCE),
    case(
        "bidirectional_sum",
        lambda L: L.Bidirectional(L.GRU(4, return_sequences=True, name="a"), "sum"),
        SEQUENCE,
        mask=(4, 2),
    ),
    case(
        "bidirectional_states",
        lambda L: L.Bidirectional(L.LSTM(4, return_state=True, name="a"), None),
        SEQUENCE,
    ),
    case("time_distributed", lambda L: L.TimeDistributed(L.Dense(4, name="a")), SEQUENCE),
    case(
        "time_distributed_conv", lambda L: L.TimeDistributed(L.Conv1D(2, 2, name="a")), (2, 3, 4, 2)
    ),
    case(
        "time_distributed_batch",
        lambda L: L.TimeDistributed(L.BatchNormalization(name="a")),
        SEQUENCE,
        training=True,
    ),
]
ATTENTION = [
    case("multi_head_attention", lambda L: L.MultiHeadAttention(2, 3), (2, 5, 4), (2, 6, 4)),
    case(
        "multi_head_attention_options",
        lambda L: L.MultiHeadAttention(2, 3, value_dim=5, output_shape=7, use_bias=False),
        (2, 5, 4),
        (2, 6, 3),
        (2, 6, 5),
        call={"return_attention_scores": True},
    ),
    case(
        "multi_head_attention_scores",
        lambda L: L.MultiHeadAttention(2, 3),
        (2, 5, 4),
        (2, 5, 4),
        call={"return_attention_scores": True, "use_causal_mask": True},
    ),
    case(
        "multi_head_attention_causal",
        lambda L: L.MultiHeadAttention(2, 3, sliding_window=2),
        (2, 5, 4),
        (2, 5, 4),
        call={"use_causal_mask": True},
    ),
    case(
        "multi_head_attention_mask",
        lambda L: L.MultiHeadAttention(2, 3),
        (2, 5, 4),
        (2, 6, 4),
        call={"attention_mask": np.random.default_rng(3).random((2, 5, 6)) < 0.7},
    ),
    case(
        "multi_head_attention_2d",
        lambda L: L.MultiHeadAttention(2, 3, attention_axes=(1, 2)),
        (2, 3, 2, 4),
        (2, 3, 2, 4),
    ),
    case(
        "multi_head_attention_gate",
        lambda L: L.MultiHeadAttention(2, 3, use_gate=True),
        (2, 5, 4),
        (2, 6, 4),
    ),
    case("attention", lambda L: L.Attention(), (2, 5, 4), (2, 6, 4), many=True),
    case("attention_scale", lambda L: L.Attention(True, "concat"), (2, 5, 4), (2, 6, 4), many=True),
    case(
        "attention_causal",
        lambda L: L.Attention(use_scale=True),
        (2, 5, 4),
        (2, 5, 3),
        (2, 5, 4),
        many=True,
        call={"use_causal_mask": True, "return_attention_scores": True},
    ),
    case("additive_attention", lambda L: L.AdditiveAttention(), (2, 5, 4), (2, 6, 4), many=True),
]

CASES = [
    *DENSE,
    *BASIC,
    *ACTIVATIONS,
    *DROPOUT,
    *CONV,
    *POOLING,
    *PADDING,
    *NORMALIZATION,
    *MERGING,
    *RECURRENT,
    *ATTENTION,
]
