"""Every op, one family a file; flat here, as in `keras.ops`."""

from gpunet.ops.elementwise import *  # noqa: F403
