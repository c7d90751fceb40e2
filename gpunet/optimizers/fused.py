"""Optimizers whose step is one fused op for each weight, and one for all small weights together."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from gpunet.core.primitive import REGISTRY
from gpunet.core.tensor import Tensor, as_tensor
from gpunet.core.variable import Variable
from gpunet.ops.elementwise import cast_to
from gpunet.optimizers.optimizer import Optimizer, clip_factor
from gpunet.optimizers.slots import read_all, set_all, step_inputs

SMALL = 8192  # elements: above, the numbers cost more than the calls


class Fused(NamedTuple):
    """The fused op of an optimizer, as it is configured."""

    op: str
    slots: tuple[Sequence[Any], ...]  # Variables: for each kind, one for each variable
    attributes: dict[str, Any]
    counts_steps: bool = False


class FusedOptimizer(Optimizer):
    """Base class of optimizers with a fused op; subclasses say which in `_fused`."""

    _number: Tensor | None = None  # of the step being made
    _scale: tuple[Tensor, ...] = ()  # what its gradients are still to be multiplied by
    _known_grouping: tuple | None = None

    def _fused(self) -> Fused | None:
        """Returns the op of this configuration; `None` if there is none."""
        raise NotImplementedError(f"{type(self).__name__} does not define `_fused`.")

    def _general_step(self, gradient, variable, learning_rate):
        """One step of a configuration that has no fused op."""
        raise NotImplementedError(f"{type(self).__name__} does not define `_general_step`.")

    def _fuses_weight_decay(self) -> bool:
        return self._has_own_step() and self._fused() is not None

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Changes one variable and its slots."""
        fused = self._fused()
        if fused is None:
            self._general_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        slots = [slots[index] for slots in fused.slots]
        w, g, rate = step_inputs(variable, gradient, learning_rate, wide=False)
        scalars = self._scalars(fused, rate)
        values = REGISTRY[fused.op + "_update"](
            w,
            g,
            *[slot.value for slot in slots],
            *scalars,
            *self._scale,
            weight_decay=self._decay_of(variable),
            **fused.attributes,
        )
        set_all((variable, *slots), values if isinstance(values, tuple) else (values,))

    def _scalars(self, fused: Fused, learning_rate: Tensor) -> tuple[Tensor, ...]:
        if not fused.counts_steps:
            return (learning_rate,)
        return learning_rate, self._step_number() if self._number is None else self._number

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        learning_rate = as_tensor(learning_rate)
        fused = self._fused()
        if fused is not None and fused.counts_steps:
            self._number = self._step_number()  # once, not once for each variable
        try:
            left: Sequence[int] = range(len(grads))
            if fused is not None and self._has_own_step():
                left = self._update_small(fused, grads, trainable_variables, learning_rate)
            for i in left:
                self.update_step(grads[i], trainable_variables[i], learning_rate)
        finally:
            self._number, self._scale = None, ()

    def _clip_gradients(self, grads):
        """Clips; where a kernel makes the step, it takes the factor of `global_clipnorm` along.

        So the gradients are not read and written once more.
        """
        if self.global_clipnorm and self._has_own_step() and self._fused() is not None:
            present = [as_tensor(g) for g in grads]
            if all(g.device.kind != "cpu" for g in present):
                self._scale = (clip_factor(present, self.global_clipnorm),)
                return grads
        return super()._clip_gradients(grads)

    def _has_own_step(self):
        return type(self).update_step is FusedOptimizer.update_step

    def _update_small(self, fused, grads, variables, learning_rate):
        """Updates small variables on the CPU by one op a dtype; returns which are left."""
        groups, left = self._grouping(variables)
        for dtype, decay, members in groups:
            of_group = [grads[i] for i in members], [variables[i] for i in members]
            self._update_group(fused, *of_group, dtype, decay, learning_rate)
        return left

    def _grouping(self, variables):
        """Which variables are updated together (as dtype, decay, positions), and which alone."""
        key = (*map(id, variables), self.weight_decay, self._decay_in_step)
        if self._known_grouping is not None and self._known_grouping[0] == key:
            return self._known_grouping[1]
        found: dict[tuple, list[int]] = {}
        for i, v in enumerate(variables):
            small = math.prod(v.shape) <= SMALL and v._dtype.itemsize >= 4
            alone = i if not small or v.device.kind != "cpu" else None
            found.setdefault((v._dtype, self._decay_of(v), alone), []).append(i)
        groups = [(*of[:2], members) for of, members in found.items() if len(members) > 1]
        left = sorted(members[0] for members in found.values() if len(members) == 1)
        self._known_grouping = key, (groups, left)
        return groups, left

    def _update_group(self, fused, grads, variables, dtype, decay, learning_rate):
        index = self._trainable_variables_indices
        slots = [kind[index[id(v)]] for kind in fused.slots for v in variables]
        grads = [g if g.data.dtype == dtype else cast_to(g, dtype) for g in map(as_tensor, grads)]
        scalars = self._scalars(fused, learning_rate)
        values = REGISTRY[fused.op + "_updates"](
            *scalars,
            *read_all(variables),
            *grads,
            *read_all(slots),
            weight_decay=decay,
            **fused.attributes,
        )
        set_all((*variables, *slots), values)
