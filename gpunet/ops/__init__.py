"""Every op, one family a file; flat here, as in `keras.ops`."""

from gpunet.ops.contraction import *  # noqa: F403
from gpunet.ops.convolution import *  # noqa: F403
from gpunet.ops.creation import *  # noqa: F403
from gpunet.ops.elementwise import *  # noqa: F403
from gpunet.ops.extrema import *  # noqa: F403
from gpunet.ops.index import *  # noqa: F403
from gpunet.ops.pool import *  # noqa: F403
from gpunet.ops.products import *  # noqa: F403
from gpunet.ops.reduce import *  # noqa: F403
from gpunet.ops.shape import *  # noqa: F403
from gpunet.ops.transposed import *  # noqa: F403
