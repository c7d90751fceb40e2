"""Graph, with what people do with one: draw it, keep it in a file, count its bytes and flops."""

import os
from pathlib import Path

from gpunet.compile import drawing, storage
from gpunet.compile.cost import Cost, cost
from gpunet.core import trace


class Graph(trace.Graph):
    """Equations over symbols; `gpunet.function(f).graph(*args)` returns one.

    Attributes:
        inputs: Symbols of the arguments.
        equations: In the order in which they run; each has `op`, `inputs`, `attributes`, `outputs`
            and `origin`: the layer and the line of code that it comes from.
        constants: Arrays met while tracing, by the symbol that stands for each.
        cells: The Variables used.
        outputs: Symbols of the results.

    Example:
        >>> import gpunet
        >>> graph = gpunet.function(lambda x: gpunet.ops.exp(x) + 1).graph(gpunet.tensor([0.0]))
        >>> print(graph)
        { graph a:float32[1]
          b:float32[] = constant 1.0
          c:float32[1] = exp a
          d:float32[1] = add c b
          return d:float32[1] }
        >>> print(graph.draw())
        flowchart TD
          s0(["argument float32[1]"])
          e0["exp float32[1]"]
          s0 --> e0
          e1["add float32[1]"]
          e0 --> e1
          e1 --> result0(["result 0"])
    """

    @classmethod
    def of(cls, graph: trace.Graph) -> "Graph":
        """Returns a graph of this class with the parts of another."""
        new = cls(graph.device)
        new.__dict__.update(graph.__dict__)
        return new

    def draw(self, path: str | os.PathLike | None = None, origins: bool = False) -> str:
        """Draws the graph.

        Args:
            path: A file to write: `.mmd` or `.md` (Mermaid), `.dot` (Graphviz) or `.svg`. By
                default nothing is written.
            origins: Whether equations show the layer that they come from.

        Returns:
            The drawing as text: Mermaid, unless `path` ends otherwise.

        Raises:
            ArgumentError: If `path` ends in none of these.
            ImportError: For `.svg`, if `pydot` or Graphviz is not there.
        """
        suffix = ".mmd" if path is None else Path(path).suffix
        text = drawing.draw(self, suffix, origins)
        if path is not None:
            Path(path).write_text(text, "utf-8")
        return text

    def save(self, path: str | os.PathLike) -> None:
        """Writes the graph, its constants and the values of its Variables to a safetensors file.

        Raises:
            SavingError: If an equation has an attribute that a file cannot hold, or a primitive
                that was made while the program ran.
        """
        storage.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Graph":
        """Reads what `save` wrote; its Variables are new ones with the values kept.

        Nothing in the file is executed.

        Raises:
            SavingError: If the file is damaged, or asks for a primitive that does not exist.
        """
        return cls.of(storage.load(path))

    def cost(self) -> Cost:
        """Counts the bytes that the equations read and write, and their arithmetic.

        Example:
            >>> import gpunet
            >>> x = gpunet.ops.zeros((64, 64))
            >>> graph = gpunet.function(lambda x: x @ x + x).graph(x)
            >>> print(graph.cost())
            op       equations        flops        bytes
            matmul           1      524,288       49,152
            add              1        4,096       49,152
            total            2      528,384       98,304
        """
        return cost(self)
