"""Checks for ops and layers, shipped so that users can check their own."""

from gpunet.testing.gradients import check_gradients as check_gradients
from gpunet.testing.numbers import assert_close as assert_close
from gpunet.testing.ops import check_op as check_op
from gpunet.testing.sanitize import sanitize as sanitize
