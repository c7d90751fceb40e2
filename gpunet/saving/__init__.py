"""Floor 5: objects to configs and files, and back. Knows dicts and arrays; classes register."""

from gpunet.saving.files import load_model as load_model
from gpunet.saving.files import load_weights as load_weights
from gpunet.saving.files import save_model as save_model
from gpunet.saving.files import save_weights as save_weights
from gpunet.saving.operations import call_arguments as call_arguments
from gpunet.saving.registry import CustomObjectScope as CustomObjectScope
from gpunet.saving.registry import custom_object_scope as custom_object_scope
from gpunet.saving.registry import get_custom_objects as get_custom_objects
from gpunet.saving.registry import get_registered_name as get_registered_name
from gpunet.saving.registry import get_registered_object as get_registered_object
from gpunet.saving.registry import register_keras_serializable as register_keras_serializable
from gpunet.saving.registry import serializable as serializable
from gpunet.saving.serialization import deserialize_keras_object as deserialize_keras_object
from gpunet.saving.serialization import serialize_keras_object as serialize_keras_object
