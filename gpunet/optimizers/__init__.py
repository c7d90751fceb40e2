"""Optimizers: how weights follow their gradients."""

from typing import Any

from gpunet import schedules as schedules
from gpunet.optimizers.adam import Adam as Adam
from gpunet.optimizers.adam import AdamW as AdamW
from gpunet.optimizers.adaptive import Adadelta as Adadelta
from gpunet.optimizers.adaptive import Adagrad as Adagrad
from gpunet.optimizers.adaptive import RMSprop as RMSprop
from gpunet.optimizers.loss_scale import LossScaleOptimizer as LossScaleOptimizer
from gpunet.optimizers.optimizer import Optimizer as Optimizer
from gpunet.optimizers.relatives import Adamax as Adamax
from gpunet.optimizers.relatives import Lamb as Lamb
from gpunet.optimizers.relatives import Lion as Lion
from gpunet.optimizers.relatives import Nadam as Nadam
from gpunet.optimizers.sgd import SGD as SGD
from gpunet.saving import serialize_keras_object
from gpunet.saving.lookup import Names

_CLASSES = [
    Optimizer,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Adamax,
    Lamb,
    Lion,
    LossScaleOptimizer,
    Nadam,
    RMSprop,
    SGD,
]
_NAMES = Names(
    "optimizer", "keras.optimizers", _CLASSES, {cls.__name__.lower(): cls for cls in _CLASSES}
)


def serialize(optimizer: Optimizer) -> Any:
    """Returns the config of an optimizer."""
    return serialize_keras_object(optimizer)


def deserialize(config: Any, custom_objects: dict | None = None) -> Any:
    """Returns the optimizer of a config or name.

    Raises:
        ArgumentError: If nothing has that name.
    """
    if isinstance(config, dict):
        known = _NAMES.objects.get(str(config.get("class_name")).lower())
        if known is not None and not config.get("registered_name"):
            config = {**config, "class_name": known.__name__}
    return _NAMES.deserialize(config, custom_objects)


def get(identifier: Any) -> Optimizer | None:
    """Returns the optimizer that a name, config, instance or `None` stands for.

    Args:
        identifier: For example `"adam"`, `"SGD"`, a config, or an `Optimizer`.

    Raises:
        ArgumentError: If the identifier means no optimizer.

    Example:
        >>> get("rmsprop").get_config()["rho"]
        0.9
    """
    if identifier is None or isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, (str, dict)):
        if isinstance(identifier, str) and identifier.lower() in _NAMES.objects:
            identifier = identifier.lower()
        found = deserialize(identifier)
        if isinstance(found, Optimizer):
            return found
    raise _NAMES.unknown(identifier)
