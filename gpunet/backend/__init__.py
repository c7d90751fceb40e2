"""Floor 1: arrays and devices. Nothing in here knows what a Tensor is.

Also Keras's `backend` namespace: the settings that its code reads and writes.
"""

from gpunet.config import backend as backend
from gpunet.config import epsilon as epsilon
from gpunet.config import floatx as floatx
from gpunet.config import image_data_format as image_data_format
from gpunet.config import set_epsilon as set_epsilon
from gpunet.config import set_floatx as set_floatx
from gpunet.config import set_image_data_format as set_image_data_format
from gpunet.dtypes import is_float as is_float_dtype
from gpunet.dtypes import is_int as is_int_dtype
from gpunet.dtypes import result_type as result_type
from gpunet.dtypes import standardize_dtype as standardize_dtype

__all__ = [
    "backend",
    "epsilon",
    "floatx",
    "image_data_format",
    "is_float_dtype",
    "is_int_dtype",
    "result_type",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "standardize_dtype",
]
