"""gpunet: a deep learning framework small enough to read and fast enough to use.

`import gpunet as keras` runs Keras 3 code; `gpunet.tensor`, `gpunet.grad` and `gpunet.ops` are
below it. Axes in comments: B batch, T time, C channels, H W height and width, D features, N heads,
K head size; M N K for products; R rows, C columns in kernels.
"""

from gpunet import activations as activations
from gpunet import backend as backend
from gpunet import callbacks as callbacks
from gpunet import config as config
from gpunet import constraints as constraints
from gpunet import cuda as cuda
from gpunet import datasets as datasets
from gpunet import dtype_policies as dtype_policies
from gpunet import errors as errors
from gpunet import initializers as initializers
from gpunet import layers as layers
from gpunet import losses as losses
from gpunet import metrics as metrics
from gpunet import models as models
from gpunet import ops as ops
from gpunet import optimizers as optimizers
from gpunet import random as random
from gpunet import regularizers as regularizers
from gpunet import saving as saving
from gpunet import tree as tree
from gpunet import utils as utils
from gpunet.backend.device import Device as Device
from gpunet.backend.device import device as device
from gpunet.backend.device import list_devices as list_devices
from gpunet.backend.device import set_default_device as set_default_device
from gpunet.compile import function as function
from gpunet.core.gradients import GradientTape as GradientTape
from gpunet.core.gradients import custom_gradient as custom_gradient
from gpunet.core.gradients import grad as grad
from gpunet.core.gradients import no_grad as no_grad
from gpunet.core.gradients import stop_gradient as stop_gradient
from gpunet.core.gradients import value_and_grad as value_and_grad
from gpunet.core.naming import name_scope as name_scope
from gpunet.core.symbolic import KerasTensor as KerasTensor
from gpunet.core.symbolic import Operation as Operation
from gpunet.core.symbolic import SymbolicScope as SymbolicScope
from gpunet.core.tensor import Tensor as Tensor
from gpunet.core.tensor import tensor as tensor
from gpunet.core.trace import trace as trace
from gpunet.core.variable import StatelessScope as StatelessScope
from gpunet.core.variable import Variable as Variable
from gpunet.dtype_policies import DTypePolicy as DTypePolicy
from gpunet.dtype_policies import FloatDTypePolicy as FloatDTypePolicy
from gpunet.initializers import Initializer as Initializer
from gpunet.layers import Input as Input
from gpunet.layers import InputSpec as InputSpec
from gpunet.layers import Layer as Layer
from gpunet.losses import Loss as Loss
from gpunet.metrics import Metric as Metric
from gpunet.models import Model as Model
from gpunet.models import Sequential as Sequential
from gpunet.ops.checkpoint import RematScope as RematScope
from gpunet.ops.checkpoint import checkpoint as checkpoint
from gpunet.ops.checkpoint import remat as remat
from gpunet.optimizers import Optimizer as Optimizer
from gpunet.regularizers import Regularizer as Regularizer
from gpunet.version import __version__ as __version__


def version() -> str:
    """Returns the version of gpunet."""
    return __version__
