"""gpunet: a deep learning framework small enough to read and fast enough to use."""

from gpunet import ops as ops
from gpunet.backend.device import device as device
from gpunet.backend.device import list_devices as list_devices
from gpunet.backend.device import set_default_device as set_default_device
from gpunet.core.gradients import GradientTape as GradientTape
from gpunet.core.gradients import custom_gradient as custom_gradient
from gpunet.core.gradients import grad as grad
from gpunet.core.gradients import no_grad as no_grad
from gpunet.core.gradients import stop_gradient as stop_gradient
from gpunet.core.gradients import value_and_grad as value_and_grad
from gpunet.core.symbolic import KerasTensor as KerasTensor
from gpunet.core.tensor import Tensor as Tensor
from gpunet.core.tensor import tensor as tensor
from gpunet.core.variable import StatelessScope as StatelessScope
from gpunet.core.variable import Variable as Variable
