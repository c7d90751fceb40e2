"""What optimizers share: arguments, names, errors, precision, other devices."""

import numpy as np
import pytest

import gpunet
from gpunet import optimizers
from gpunet.core.trace import trace

ALL = [
    cls for cls in optimizers._CLASSES if cls.__name__ not in ("Optimizer", "LossScaleOptimizer")
]
FUSED = [optimizers.SGD, optimizers.Adam, optimizers.AdamW, optimizers.RMSprop]


def weights(dtype="float32", *shapes):
    shapes = shapes or ((3, 2), (2,))
    return [gpunet.Variable(np.ones(s), dtype=dtype, name=f"w{i}") for i, s in enumerate(shapes)]


def grads_of(variables, value=1.0):
    return [gpunet.ops.full(v.shape, value, dtype=v.dtype) for v in variables]


@pytest.mark.parametrize("cls", ALL)
def test_every_optimizer_goes_downhill(cls):
    x = gpunet.Variable([3.0, -2.0])
    optimizer = cls(learning_rate=0.1)
    for _ in range(60):
        with gpunet.GradientTape() as tape:
            loss = gpunet.ops.sum(x * x)
        optimizer.apply_gradients([(tape.gradient(loss, x), x)])
    assert float(gpunet.ops.sum(x * x)) < 12.95
    assert int(optimizer.iterations) == 60


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("cls", ALL)
def test_dtypes(cls, dtype):
    exact, other = weights("float32"), weights(dtype)
    first, second = cls(learning_rate=0.125), cls(learning_rate=0.125)
    for _ in range(3):
        first.apply(grads_of(exact), exact)
        second.apply(grads_of(other), other)
    for x, y in zip(exact, other, strict=True):
        assert y.dtype == dtype
        tolerance = {"float16": 1e-2, "bfloat16": 4e-2, "float64": 1e-5}[dtype]
        np.testing.assert_allclose(y.numpy().astype("float32"), x.numpy(), rtol=tolerance)
    assert [v.dtype for v in second.variables[2:]].count(dtype) == len(second.variables) - 2


@pytest.mark.parametrize("cls", FUSED)
def test_the_emulator_makes_the_same_steps(cls):
    results = []
    for device in ("cpu", "emulator"):
        with gpunet.device(device):
            variables, optimizer = weights(), cls(learning_rate=0.125)
            for _ in range(3):
                optimizer.apply(grads_of(variables), variables)
            results.append([v.numpy() for v in (*variables, *optimizer.variables)])
    for x, y in zip(*results, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("cls", FUSED)
def test_large_and_small_weights_together(cls):
    together = weights("float32", (300, 200), (5,), (), (7, 2), (100, 200))
    apart = weights("float32", (300, 200), (5,), (), (7, 2), (100, 200))
    one, many = cls(0.1), [cls(0.1) for _ in apart]
    for _ in range(3):
        one.apply(grads_of(together), together)
        for optimizer, v in zip(many, apart, strict=True):
            optimizer.apply(grads_of([v]), [v])
    for x, y in zip(together, apart, strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-6)


def test_excluded_weights_do_not_decay():
    variables = [gpunet.Variable([1.0], name=name) for name in ("kernel", "bias", "gamma")]
    optimizer = optimizers.AdamW(learning_rate=0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=variables[2:], var_names=["bias"])
    optimizer.apply(grads_of(variables, 0.0), variables)
    assert [round(v.numpy().item(), 4) for v in variables] == [0.95, 1.0, 1.0]
    with pytest.raises(gpunet.errors.StateError, match="before the optimizer is built"):
        optimizer.exclude_from_weight_decay(var_names=["kernel"])


class Unfused(optimizers.SGD):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate)


class Own(optimizers.Optimizer):
    def build(self, variables):
        super().build(variables)
        self.seen = self.add_optimizer_variables(variables, "seen")
        self.steps = gpunet.Variable(0.0, trainable=False, name="steps")

    def update_step(self, gradient, variable, learning_rate):
        self.assign_add(self.seen[self._get_variable_index(variable)], gradient)
        self.assign_sub(variable, gradient * learning_rate)
        self.steps.assign_add(1)


def test_own_optimizers():
    ours, wanted = weights(), weights()
    optimizer = Own(learning_rate=0.5, weight_decay=0.1)
    optimizer.apply(grads_of(ours), ours)
    optimizers.SGD(0.5, weight_decay=0.1).apply(grads_of(wanted), wanted)
    unfused = weights()
    Unfused(0.5, weight_decay=0.1).apply(grads_of(unfused), unfused)
    for x, y, z in zip(ours, wanted, unfused, strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-6)
        np.testing.assert_allclose(z.numpy(), y.numpy(), rtol=1e-6)
    names = [v.name for v in optimizer.variables]
    assert names == ["iteration", "learning_rate", "w0_seen", "w1_seen", "steps"]
    assert [v.numpy().max() for v in optimizer.variables] == [1, 0.5, 1, 1, 2]
    with pytest.raises(NotImplementedError):
        optimizers.Optimizer(0.1).apply(grads_of(ours), ours)


def test_learning_rates():
    optimizer = optimizers.SGD(learning_rate=0.5)
    optimizer.learning_rate = 0.25
    assert float(optimizer.learning_rate) == 0.25
    optimizer.learning_rate = optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    assert len(optimizer.variables) == 1
    variables = [gpunet.Variable(1.0)]
    optimizer.apply(grads_of(variables), variables)
    optimizer.apply(grads_of(variables), variables)
    assert variables[0].numpy() == 1 - 0.5 - 0.25
    with pytest.raises(TypeError, match="LearningRateSchedule"):
        optimizer.learning_rate = 0.1
    rate = gpunet.Variable(0.5, trainable=False)
    called = optimizers.SGD(learning_rate=lambda: rate)
    called.apply(grads_of(variables), variables)
    assert variables[0].numpy() == -0.25
    assert optimizers.SGD(learning_rate=rate).learning_rate is rate


def test_learning_rate_set_after_tracing_counts():
    variables, optimizer = weights(), optimizers.SGD(0.5)
    optimizer.build(variables)
    graph = trace(lambda *gs: optimizer.apply(gs, variables), *grads_of(variables))
    optimizer.learning_rate = 0.25
    graph(*grads_of(variables))
    assert variables[0].numpy().max() == 0.75


def test_a_tape_does_not_record_a_step():
    variables = weights()
    with gpunet.GradientTape() as tape:
        loss = gpunet.ops.sum(variables[0] * 2.0)
        optimizers.Adam().apply(grads_of(variables), variables)
    assert tape.gradient(loss, variables[0]).numpy().max() == 2.0


def test_missing_gradients():
    variables = weights()
    optimizer = optimizers.Adam()
    with pytest.warns(UserWarning, match=r"\['w1'\]"):
        optimizer.apply([grads_of(variables)[0], None], variables)
    assert variables[1].numpy().tolist() == [1.0, 1.0]
    with pytest.raises(gpunet.errors.ArgumentError, match="No gradients provided"):
        optimizer.apply([None, None], variables)
    optimizer.apply([], variables)
    assert int(optimizer.iterations) == 1


@pytest.mark.parametrize("cls", FUSED)
def test_a_failed_step_changes_nothing(cls):
    variables = weights()
    optimizer = cls()
    optimizer.apply(grads_of(variables), variables)
    before = [v.numpy().copy() for v in (*variables, *optimizer.variables)]
    good = grads_of(variables)
    for bad, error in (
        ([good[0], gpunet.ops.ones((3,))], gpunet.errors.ShapeError),
        ([good[0]], gpunet.errors.ArgumentError),
        ([good[0], "one"], Exception),
    ):
        with pytest.raises(error):
            optimizer.apply(bad, variables)
    with pytest.raises(gpunet.errors.ArgumentError, match="Unknown variable"):
        optimizer.apply(good, weights())
    for v, value in zip((*variables, *optimizer.variables), before, strict=True):
        np.testing.assert_array_equal(v.numpy(), value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizers.SGD(learning_rate="fast"),
        lambda: optimizers.SGD(momentum=1.5),
        lambda: optimizers.Lion(beta_1=0.0),
        lambda: optimizers.AdamW(weight_decay=None),
        lambda: optimizers.Adam(clipnorm=1.0, clipvalue=1.0),
        lambda: optimizers.Adam(gradient_accumulation_steps=1),
        lambda: optimizers.Adam(use_ema=True, ema_momentum=2.0),
        lambda: optimizers.Adam(use_ema=True, ema_overwrite_frequency=0.5),
        lambda: optimizers.Adam(speed=3),
        lambda: optimizers.LossScaleOptimizer(optimizers.SGD(), clipnorm=1.0),
        lambda: optimizers.LossScaleOptimizer(optimizers.SGD(), dynamic=False),
        lambda: optimizers.get("adamm"),
        lambda: optimizers.get(3),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(gpunet.errors.ArgumentError, match="Received"):
        make()


def test_get():
    adam = optimizers.Adam()
    assert optimizers.get(None) is None
    assert optimizers.get(adam) is adam
    for name in ("adam", "Adam", "ADAM", "adamw", "rmsprop", "sgd"):
        assert type(optimizers.get(name)).__name__.lower() == name.lower()
    config = {"class_name": "adam", "config": {"learning_rate": 0.5}}
    assert float(optimizers.get(config).learning_rate) == 0.5
    assert config == {"class_name": "adam", "config": {"learning_rate": 0.5}}


def test_set_weights():
    variables, optimizer = weights(), optimizers.SGD(momentum=0.5)
    with pytest.raises(gpunet.errors.StateError, match="not yet been built"):
        optimizer.set_weights([])
    optimizer.build(variables)
    values = [np.array(3), np.array(0.5), np.ones((3, 2)), np.ones(2)]
    optimizer.set_weights(values)
    assert [v.numpy().max() for v in optimizer.variables] == [3, 0.5, 1, 1]
    with pytest.raises(gpunet.errors.ShapeError, match="Received"):
        optimizer.set_weights([np.array(9), np.array(0.5), np.ones((2, 2)), np.ones(2)])
    assert int(optimizer.iterations) == 3
    with pytest.warns(UserWarning, match="Skipping"):
        optimizer.load_own_variables({"0": np.array(1)})


def test_overwriting_variables():
    variable = gpunet.Variable([1.0, 2.0])
    variable.overwrite_with_gradient = True
    other = gpunet.Variable([1.0])
    optimizer = optimizers.Adam(learning_rate=0.5)
    optimizer.apply([gpunet.tensor([5.0, 6.0]), gpunet.tensor([1.0])], [variable, other])
    assert variable.numpy().tolist() == [5.0, 6.0]
    assert other.numpy().tolist() == pytest.approx([0.5], rel=1e-5)


def test_loss_scale_is_traced():
    results = []
    for traced in (False, True):
        variables = weights()
        optimizer = optimizers.LossScaleOptimizer(optimizers.SGD(0.5), 16.0, 2)
        optimizer.build(variables)

        def step(*gs, optimizer=optimizer, variables=variables):
            optimizer.apply(gs, variables)

        step = trace(step, *grads_of(variables)) if traced else step
        for value in (1.0, np.inf, 2.0, 1.0, 1.0, np.nan):
            step(*grads_of(variables, value))
        results.append([v.numpy() for v in (*variables, *optimizer.variables)])
    for x, y in zip(*results, strict=True):
        np.testing.assert_array_equal(x, y)
