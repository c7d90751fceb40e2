"""The computational graph: functions traced once, made simpler, and run without going op by op."""

from gpunet.compile.executable import Executable as Executable
from gpunet.compile.function import Function as Function
from gpunet.compile.function import function as function
from gpunet.compile.graph import Graph as Graph
from gpunet.compile.passes import PASSES as PASSES
from gpunet.compile.passes import optimize as optimize
from gpunet.compile.program import Program as Program
