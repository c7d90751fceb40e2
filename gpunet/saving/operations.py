"""Ops as nodes of a functional model, such as the `+` of a residual connection, in configs.

Keras has a class for every op, made from its settings and called on its operands: `Sum(axis=1)(x)`.
gpunet calls `sum(x, axis=1)`. Here the arguments of a call are told apart by their names.
"""

import inspect
from collections.abc import Sequence
from typing import Any

from gpunet.core.symbolic import FunctionOperation, flatten
from gpunet.core.tensor import FUNCTIONS, Operators
from gpunet.errors import SavingError, received
from gpunet.naming import auto_name

# Names of parameters that a call passes; all others are settings.
_OPERAND_NAMES = (
    "a abs_ angle args array b beta bias branches choicelist condition condlist constant_values "
    "coordinates data default depthwise_kernel elements elems end_points f false_fn fun gamma "
    "image1 image2 images index indices init init_val inputs kernel key loop_vars mask mean "
    "offset operands output output_length output_shape pointwise_kernel pred predictions primals "
    "query scale segment_ids sequence_lengths sorted_sequence start start_indices start_points "
    "step stop tangents target target_length targets transform translation true_fn updates value "
    "values variable variance weights x x1 x2 xs y"
)
_OPERANDS = frozenset(_OPERAND_NAMES.split())
_SETTINGS = {
    ("bincount", "weights"),
    ("diagonal", "offset"),
    ("squareplus", "b"),
    ("trace", "offset"),
    ("trapezoid", "x"),
}
_MORE_OPERANDS = {
    ("digitize", "bins"),
    ("full", "fill_value"),
    ("full_like", "fill_value"),
    ("isclose", "atol"),
    ("isclose", "rtol"),
    ("quantile", "q"),
    ("nanpercentile", "q"),
    ("nanquantile", "q"),
    ("percentile", "q"),
}

# The private modules of Keras that configs name; ops that are on no line are in `numpy`.
_MODULES = {
    "nn": "average_pool batch_normalization binary_crossentropy categorical_crossentropy celu conv "
    "conv_transpose ctc_decode ctc_loss depth_to_space depthwise_conv dot_product_attention elu "
    "fold gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh layer_normalization leaky_relu "
    "log_sigmoid log_softmax max_pool moments multi_hot normalize one_hot polar psnr relu relu6 "
    "rms_normalization selu separable_conv sigmoid silu soft_shrink softmax softplus softsign "
    "space_to_depth sparse_categorical_crossentropy sparse_plus sparse_sigmoid sparsemax "
    "squareplus tanh_shrink threshold unfold",
    "core": "associative_scan cast cond convert_to_tensor fori_loop map saturate_cast scan scatter "
    "scatter_update slice slice_update stop_gradient switch unstack vectorized_map while_loop",
    "math": "cdist erf erfc erfinv extract_sequences fft fft2 ifft2 in_top_k irfft istft logdet "
    "logsumexp rfft rsqrt segment_max segment_min segment_prod segment_sum stft top_k",
    "linalg": "cholesky cholesky_inverse det eig eigh inv lstsq lu_factor matrix_rank norm pinv qr "
    "solve solve_triangular svd",
    "image": "affine_transform crop_images elastic_transform extract_patches gaussian_blur "
    "hsv_to_rgb map_coordinates pad_images perspective_transform resize rgb_to_grayscale "
    "rgb_to_hsv scale_and_translate",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}
_CLASSES = {
    "allclose": "AllClose",
    "batch_normalization": "BatchNorm",
    "cdist": "CDist",
    "ctc_decode": "CTCDecode",
    "ctc_loss": "CTCLoss",
    "fft": "FFT",
    "fft2": "FFT2",
    "hard_swish": "HardSilu",
    "hsv_to_rgb": "HSVToRGB",
    "ifft2": "IFFT2",
    "irfft": "IRFFT",
    "isin": "IsIn",
    "istft": "ISTFT",
    "layer_normalization": "LayerNorm",
    "psnr": "PSNR",
    "rfft": "RFFT",
    "rgb_to_grayscale": "RGBToGrayscale",
    "rgb_to_hsv": "RGBToHSV",
    "rms_normalization": "RMSNorm",
    "searchsorted": "SearchSorted",
    "stft": "STFT",
    "svd": "SVD",
    "swish": "Silu",
}
_NAMES = {
    cls: name for name, cls in _CLASSES.items() if name not in ("hard_swish", "swish")
}  # fmt: skip
_PREFIX = "keras.src.ops."


class RestoredOperation(FunctionOperation):
    """An op from a config: its settings are kept, and calls pass the operands.

    Args:
        function: Name of the op.
        settings: Arguments by name that every call has.
        name: Name; default an automatic one.
    """

    def __init__(self, function: str, settings: dict[str, Any], name: str | None = None):
        super().__init__(function, name or auto_name(function))
        self.settings = settings

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Computes on tensors; a file cannot make it compute on numbers of its own."""
        if not any(isinstance(x, Operators) for x in flatten((args, kwargs))):
            raise SavingError(
                f"The op `{self.function}` of a model must be called on tensors. "
                + received(args=args, settings=self.settings)
            )
        return super().__call__(*args, **kwargs)

    def call(self, *operands: Any, **more: Any) -> Any:
        """Computes the op."""
        if self.function == "get_item" and isinstance(operands[1], list):
            operands = (operands[0], tuple(operands[1]))  # JSON has no tuples
        rest, settings, args = list(operands), {**self.settings, **more}, []
        for parameter in inspect.signature(FUNCTIONS[self.function]).parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                args += rest
                rest = []
            elif parameter.name in settings:
                if not rest:
                    break
                args.append(settings.pop(parameter.name))
            elif rest:
                args.append(rest.pop(0))
            else:
                break
        return FUNCTIONS[self.function](*args, *rest, **settings)


def split(operation: FunctionOperation, args: Sequence, kwargs: dict) -> tuple[list, dict, dict]:
    """Tells the arguments of an op apart.

    Args:
        operation: The op.
        args: Positional arguments of a call.
        kwargs: Its keyword arguments.

    Returns:
        Operands by position, operands by name, and settings by name.
    """
    if isinstance(operation, RestoredOperation):
        return list(args), kwargs, operation.settings
    signature = inspect.signature(FUNCTIONS[operation.function])
    operands: list[Any] = []
    named: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        parameter = signature.parameters[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            operands += value
        elif parameter.kind is parameter.VAR_KEYWORD:
            named.update(value)
        elif not _is_operand(operation.function, name):
            settings[name] = value
        elif named or _after_a_gap(signature, name, operands, operation.function):
            named[name] = value
        else:
            operands.append(value)
    return operands, named, settings


def call_arguments(operation: Any, args: Sequence, kwargs: dict) -> tuple[Any, dict]:
    """Returns the arguments of a call in a functional model as configs hold them.

    Args:
        operation: Layer or op; the settings of an op are in its own config.
        args: Positional arguments.
        kwargs: Keyword arguments.
    """
    if not isinstance(operation, FunctionOperation):
        return args, kwargs
    operands, named, _ = split(operation, args, kwargs)
    return tuple(operands), named


def _is_operand(function, name):
    key = function, name
    return key in _MORE_OPERANDS or (name in _OPERANDS and key not in _SETTINGS)


def _after_a_gap(signature, name, operands, function):
    """Whether an operand before this one was left out, so that it must be passed by name."""
    before = [p for p in signature.parameters if _is_operand(function, p)]
    return before.index(name) > len(operands)


def is_operation(module: str | None) -> bool:
    """Tells whether a config's module is one of those in which Keras has its ops."""
    return (module or "").startswith(_PREFIX)


def serialize_operation(operation: FunctionOperation) -> dict[str, Any]:
    """Returns the module, class name and config of an op; the config has its settings."""
    function = operation.function
    settings: dict[str, Any] = {}
    for node in operation._inbound_nodes[:1]:
        settings = split(operation, node.args, node.kwargs)[2]
    name = _CLASSES.get(function) or "".join(part.capitalize() for part in function.split("_"))
    return {
        "module": _PREFIX + _MODULE_OF.get(function, "numpy"),
        "class_name": name,
        "config": {"name": operation.name, **settings},
        "registered_name": name,
    }


def deserialize_operation(class_name: str, config: dict[str, Any]) -> RestoredOperation:
    """Returns the op of a config.

    Args:
        class_name: Keras's class, such as `"Sum"`.
        config: Its settings, and its name.

    Raises:
        SavingError: If gpunet has no such op, or the op has no such setting.
    """
    function = _NAMES.get(class_name) or _by_class().get(class_name)
    if function is None or function not in FUNCTIONS:
        raise SavingError(f"gpunet has no op of this name. {received(class_name=class_name)}")
    known = inspect.signature(FUNCTIONS[function]).parameters
    settings = {key: value for key, value in config.items() if key != "name"}
    for key in [key for key in settings if key not in known]:
        if settings.pop(key) is not None:
            raise SavingError(
                f"The op `{function}` has no setting {key!r}, which the config of {class_name} "
                f"gives. {received(**{key: config[key]})}"
            )
    return RestoredOperation(function, settings, config.get("name"))


def _by_class():
    return {"".join(part.capitalize() for part in name.split("_")): name for name in FUNCTIONS}
