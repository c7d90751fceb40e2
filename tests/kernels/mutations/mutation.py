"""What a mutation is: one plausible bug in one kernel file, and the primitives that show it."""

from dataclasses import dataclass

from gpunet.backend.sources import kernel_dir


@dataclass(frozen=True)
class Mutation:
    """A file of `cuda_kernels/` with one piece of text replaced.

    Attributes:
        file: Name of the file; a header is broken for every kernel that includes it.
        old: What stands there, exactly once.
        new: The bug.
        primitives: Whose rows must fail: each of them by itself.
    """

    file: str
    old: str
    new: str
    primitives: tuple[str, ...]

    @property
    def text(self) -> str:
        """The broken source."""
        source = (kernel_dir() / self.file).read_text()
        assert source.count(self.old) == 1, f"{self.file} holds {self.old!r} not exactly once"
        return source.replace(self.old, self.new)


def mutation(file: str, old: str, new: str, *primitives: str) -> Mutation:
    """A mutation, written on one line."""
    return Mutation(file, old, new, primitives)
