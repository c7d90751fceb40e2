"""Tape and gradients, from the first derivative to the third."""

import gc

import numpy as np
import pytest

import gpunet
from gpunet import ops
from gpunet.core.primitive import REGISTRY, Primitive
from gpunet.errors import DTypeError, GradientError, ShapeError


def test_gradients_follow_the_chain_rule():
    gradient = gpunet.grad(lambda x: (ops.sin(x) * ops.exp(x)).sum())(np.array([0.5, 1.0]))
    x = np.array([0.5, 1.0])
    np.testing.assert_allclose(gradient, np.exp(x) * (np.sin(x) + np.cos(x)), rtol=1e-12)


def test_third_derivative():
    third = gpunet.grad(gpunet.grad(gpunet.grad(lambda x: x**4)))
    assert third(2.0).item() == pytest.approx(48.0)


def test_nested_tapes_give_second_derivatives():
    x = gpunet.tensor([1.0, 2.0])
    with gpunet.GradientTape() as outer:
        outer.watch(x)
        with gpunet.GradientTape() as inner:
            inner.watch(x)
            y = x * x * x
        first = inner.gradient(y, x)
    np.testing.assert_allclose(first, [3, 12])
    np.testing.assert_allclose(outer.gradient(first, x), [6, 12])


def test_a_persistent_tape_differentiates_its_own_gradients():
    x = gpunet.tensor(3.0)
    with gpunet.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x * x
        first = tape.gradient(y, x)
    assert first.item() == 27
    assert tape.gradient(first, x).item() == 18
    assert tape.gradient(y, x).item() == 27


def test_intermediate_results_are_sources_too():
    x = gpunet.tensor(2.0)
    with gpunet.GradientTape() as tape:
        tape.watch(x)
        h = x * x
        y = h * h
    dx, dh = tape.gradient(y, [x, h])
    assert (dx.item(), dh.item()) == (32, 8)


def test_an_operand_used_twice_gets_both_cotangents():
    assert gpunet.grad(lambda x: x * x + x)(3.0).item() == 7


def test_variables_are_watched_when_read():
    v = gpunet.Variable([1.0, 2.0])
    frozen = gpunet.Variable([3.0, 4.0], trainable=False)
    with gpunet.GradientTape() as tape:
        y = (v * frozen).sum()
    dv, df = tape.gradient(y, [v, frozen])
    np.testing.assert_allclose(dv, [3, 4])
    assert df is None


def test_watch_accessed_variables_can_be_off():
    a, b = gpunet.Variable(2.0), gpunet.Variable(3.0)
    with gpunet.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(a)
        y = a * b
    assert tape.gradient(y, a).item() == 3
    with gpunet.GradientTape(watch_accessed_variables=False) as tape:
        y = a * b
    assert tape.gradient(y, b) is None


def test_sources_and_results_may_be_nests():
    x = {"a": gpunet.tensor(1.0), "b": [gpunet.tensor(2.0)]}
    with gpunet.GradientTape() as tape:
        tape.watch(x)
        y = x["a"] * x["b"][0]
    found = tape.gradient(y, x)
    assert (found["a"].item(), found["b"][0].item()) == (2, 1)


def test_unconnected_sources():
    x, z = gpunet.tensor(1.0), gpunet.tensor([1.0, 2.0])
    with gpunet.GradientTape(persistent=True) as tape:
        tape.watch([x, z])
        y = x * 2
    assert tape.gradient(y, z) is None
    np.testing.assert_array_equal(tape.gradient(y, z, unconnected_gradients="zero"), [0, 0])
    with pytest.raises(ValueError, match="unconnected_gradients"):
        tape.gradient(y, z, unconnected_gradients="ones")


def test_output_gradients_weight_the_targets():
    x = gpunet.tensor([1.0, 2.0])
    with gpunet.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    np.testing.assert_allclose(tape.gradient(y, x, output_gradients=[1.0, 10.0]), [2, 40])


def test_an_output_gradient_of_the_wrong_shape_is_refused():
    x = gpunet.tensor([1.0, 2.0])
    with gpunet.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    with pytest.raises(ShapeError, match="Received: target="):
        tape.gradient(y, x, output_gradients=[1.0])


def test_a_tape_is_used_once():
    x = gpunet.tensor(1.0)
    with gpunet.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    tape.gradient(y, x)
    with pytest.raises(GradientError, match="persistent=True"):
        tape.gradient(y, x)


def test_a_new_tape_does_not_reach_into_an_old_one():
    state = gpunet.tensor(1.0)
    w = gpunet.Variable(2.0)
    for _ in range(3):
        with gpunet.GradientTape() as tape:
            state = state * w
            loss = state * 1
        assert tape.gradient(loss, w).item() == pytest.approx(state.item() / 2)


def test_no_grad_and_stop_recording():
    x = gpunet.tensor(3.0)
    with gpunet.GradientTape(persistent=True) as tape:
        tape.watch(x)
        with gpunet.no_grad():
            constant = x * x
        with tape.stop_recording():
            other = x * x
        y = x * constant * other
    assert tape.gradient(y, x).item() == 81


def test_integers_have_no_gradient():
    with gpunet.GradientTape() as tape, pytest.raises(DTypeError, match="float"):
        tape.watch(gpunet.tensor([1, 2]))


def test_broadcasting_is_summed_back():
    def f(a, b):
        return (a * b).sum()

    a, b = np.ones((3, 1), "float32"), np.full((4,), 2, "float32")
    _, (da, db) = gpunet.value_and_grad(f, argnums=(0, 1))(a, b)
    np.testing.assert_allclose(da, np.full((3, 1), 8))
    np.testing.assert_allclose(db, np.full((4,), 3))


def test_value_and_grad_refuses_results_that_are_no_scalar():
    with pytest.raises(ShapeError, match="scalar"):
        gpunet.grad(lambda x: x * 2)([1.0, 2.0])


def test_value_and_grad_takes_variables():
    v = gpunet.Variable([1.0, 2.0])
    value, (dv,) = gpunet.value_and_grad(lambda vs: (vs[0] ** 2).sum())([v])
    assert value.item() == 5
    np.testing.assert_allclose(dv, [2, 4])


def test_custom_gradient_is_used_at_every_order():
    @gpunet.custom_gradient
    def cube(x):
        return x**3, lambda upstream: upstream * 3 * x**2 * 10

    assert gpunet.grad(cube)(2.0).item() == 120
    with pytest.raises(GradientError, match="one cotangent"):
        gpunet.grad(gpunet.custom_gradient(lambda x: (x * 1, lambda g: (g, g))))(1.0)


def test_stop_gradient():
    assert gpunet.grad(lambda x: gpunet.stop_gradient(x * x) * x)(3.0).item() == 9


def test_an_op_is_differentiated_through_its_composite():
    op = Primitive("_test_composite(x1, x2) -> y, z")
    op.composite(lambda x1, x2: (ops.sin(x1) * x2, x1 * x1))
    try:

        def f(a, b):
            y, z = op(a, b)
            return (y * 2 + z).sum()

        x1, x2 = np.array([0.3, 1.0]), np.array([2.0, 3.0])
        _, (da, db) = gpunet.value_and_grad(f, argnums=(0, 1))(x1, x2)
        np.testing.assert_allclose(da, 2 * x2 * np.cos(x1) + 2 * x1)
        np.testing.assert_allclose(db, 2 * np.sin(x1))
        twice = gpunet.grad(lambda x: gpunet.grad(f)(x, x).sum())(x1)
        # f(a, b) = 2 b sin a + a^2; d/dt of df/da(t, t) = 2 cos t - 2 t sin t + 2
        np.testing.assert_allclose(twice, 2 * np.cos(x1) - 2 * x1 * np.sin(x1) + 2)
    finally:
        del REGISTRY["_test_composite"]


def test_memory_of_the_tape_is_freed_without_the_garbage_collector():
    import weakref

    gc.disable()
    try:
        x = gpunet.tensor(np.ones(1000))
        with gpunet.GradientTape() as tape:
            tape.watch(x)
            h = ops.exp(x)
            y = h * h
        alive = weakref.ref(h)
        tape.gradient(y, x)
        del h, y
        assert alive() is None
    finally:
        gc.enable()
