"""Floor 8: Keras's `utils` namespace. Everything in it lives in another room."""

from gpunet.callbacks import Progbar as Progbar
from gpunet.config import disable_interactive_logging as disable_interactive_logging
from gpunet.config import enable_interactive_logging as enable_interactive_logging
from gpunet.config import is_interactive_logging_enabled as is_interactive_logging_enabled
from gpunet.core.symbolic import is_keras_tensor as is_keras_tensor
from gpunet.data import PyDataset as PyDataset
from gpunet.data import pack_x_y_sample_weight as pack_x_y_sample_weight
from gpunet.data import unpack_x_y_sample_weight as unpack_x_y_sample_weight
from gpunet.dtypes import standardize_dtype as standardize_dtype
from gpunet.models.function import get_source_inputs as get_source_inputs
from gpunet.naming import clear_session as clear_session
from gpunet.random import set_random_seed as set_random_seed
from gpunet.saving import CustomObjectScope as CustomObjectScope
from gpunet.saving import custom_object_scope as custom_object_scope
from gpunet.saving import deserialize_keras_object as deserialize_keras_object
from gpunet.saving import get_custom_objects as get_custom_objects
from gpunet.saving import get_registered_name as get_registered_name
from gpunet.saving import get_registered_object as get_registered_object
from gpunet.saving import register_keras_serializable as register_keras_serializable
from gpunet.saving import serialize_keras_object as serialize_keras_object
from gpunet.utils.numerical import normalize as normalize
from gpunet.utils.numerical import pad_sequences as pad_sequences
from gpunet.utils.numerical import to_categorical as to_categorical

Sequence = PyDataset
