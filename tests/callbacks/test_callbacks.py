"""Callbacks on real models: files they write, trainings they resume, logs they get, mistakes."""

import json
import math

import numpy as np
import pytest

import gpunet
from gpunet import callbacks, layers, models, optimizers
from gpunet.callbacks.callback import Callback
from gpunet.callbacks.callback_list import CallbackList, pythonify_logs
from gpunet.errors import ArgumentError, SavingError, StateError

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def compiled(seed=0):
    gpunet.random.set_random_seed(seed)
    model = models.Sequential([layers.Input((4,)), layers.Dense(3, "tanh"), layers.Dense(1)])
    model.compile(optimizers.Adam(0.01), "mse")
    return model


def fit(model, **options):
    return model.fit(X, Y, **{"batch_size": 8, "verbose": 0, **options})


# -- files ---------------------------------------------------------------------------------------


def test_checkpoints_can_be_loaded(tmp_path):
    model = compiled()
    weights = tmp_path / "sub" / "{epoch}.weights.h5"
    saves = [
        callbacks.ModelCheckpoint(weights, save_weights_only=True),
        callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="loss", save_best_only=True),
    ]
    fit(model, epochs=2, callbacks=saves)
    assert sorted(p.name for p in (tmp_path / "sub").iterdir()) == ["1.weights.h5", "2.weights.h5"]
    other = compiled(seed=1)
    other.load_weights(tmp_path / "sub" / "2.weights.h5")
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
    best = gpunet.saving.load_model(tmp_path / "best.keras")
    np.testing.assert_array_equal(best.predict(X, verbose=0), model.predict(X, verbose=0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filepath": "x.h6"}, r"must end in `\.keras`"),
        ({"filepath": "x.keras", "save_weights_only": True}, r"must end in `\.weights\.h5`"),
        ({"filepath": "x.keras", "save_freq": "batch"}, "save_freq"),
    ],
)
def test_bad_checkpoints(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        callbacks.ModelCheckpoint(**arguments)


def test_checkpoints_that_cannot_be_written(tmp_path):
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(SavingError, match="non-directory"):
        fit(compiled(), callbacks=[callbacks.ModelCheckpoint(tmp_path / "folder.keras")])
    with pytest.raises(KeyError, match="Failed to format"):
        fit(compiled(), callbacks=[callbacks.ModelCheckpoint(tmp_path / "{nothing}.keras")])


class Interrupt(Callback):
    """Raises at the beginning of an epoch, or after a batch of it."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("double", [False, True])
def test_an_interrupted_training_ends_like_one_that_was_not(tmp_path, double):
    straight = compiled()
    fit(straight, epochs=5)

    backup = callbacks.BackupAndRestore(tmp_path / "backup", double_checkpoint=double)
    with pytest.raises(KeyboardInterrupt):
        fit(compiled(), epochs=5, callbacks=[backup, Interrupt(3)])
    state = json.loads((tmp_path / "backup" / "training_metadata.json").read_text())
    assert state["epoch"] == 3
    if double:  # a file damaged while it was written
        (tmp_path / "backup" / "latest.weights.h5").write_bytes(b"damaged")
        (tmp_path / "backup" / "training_metadata.json").write_text("{")

    resumed = compiled(seed=5)  # a new process, which knows nothing of the old one
    backup = callbacks.BackupAndRestore(tmp_path / "backup", double_checkpoint=double)
    history = fit(resumed, epochs=5, callbacks=[backup])
    assert history.epoch == ([2, 3, 4] if double else [3, 4])
    for a, b in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not (tmp_path / "backup").exists()


def test_backups_between_batches(tmp_path):
    backup = callbacks.BackupAndRestore(tmp_path / "b", save_freq=2, delete_checkpoint=False)
    fit(compiled(), epochs=2, callbacks=[backup])
    assert json.loads((tmp_path / "b" / "training_metadata.json").read_text())["epoch"] == 1
    assert (tmp_path / "b" / "latest.weights.h5").exists()


def test_bad_backups(tmp_path):
    with pytest.raises(ArgumentError, match="backup_dir"):
        callbacks.BackupAndRestore("")
    with pytest.raises(ArgumentError, match="save_freq"):
        callbacks.BackupAndRestore(tmp_path, save_freq="often")

    class Unbuilt(models.Model):
        built = False

    backup = callbacks.BackupAndRestore(tmp_path)
    backup.set_model(Unbuilt())
    with pytest.raises(StateError, match="must be built"):
        backup.on_train_begin()


def test_csv_of_a_real_training(tmp_path):
    fit(compiled(), epochs=3, callbacks=[callbacks.CSVLogger(tmp_path / "log.csv")])
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,val_loss" and len(lines) == 4
    assert all(math.isfinite(float(line.split(",")[1])) for line in lines[1:])


def test_history_draws_itself():
    history = fit(compiled(), epochs=3, validation_split=0.5)
    axes = history.plot()
    assert [line.get_label() for line in axes.lines] == ["loss", "val_loss"]
    assert axes.get_xlabel() == "epoch"


# -- logs ----------------------------------------------------------------------------------------


def test_pythonified_logs():
    logs = {
        "b": gpunet.tensor(1.5),
        "a": np.float32(2),
        "inner": {"c": 3},
        "text": "x",
        "many": gpunet.tensor([1.0, 2.0]),
    }
    plain = pythonify_logs(logs)
    assert list(plain) == ["a", "b", "c", "many", "text"]
    assert plain["b"] == 1.5 and type(plain["c"]) is float and plain["text"] == "x"
    assert plain["many"].tolist() == [1.0, 2.0]
    assert pythonify_logs(None) == {} and pythonify_logs(lambda: {"a": 1}) == {"a": 1.0}


def test_logs_are_computed_only_for_those_who_look():
    computed = []

    def logs():
        computed.append(1)
        return {"loss": 1.0}

    quiet = CallbackList([callbacks.History(), callbacks.LambdaCallback()], add_progbar=False)
    assert quiet.batch_hook("on_train_batch_end") is None
    watching = CallbackList([callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: None)] * 2)
    watching.batch_hook("on_train_batch_end")(0, logs)
    assert computed == [1]


def test_old_batch_hooks_are_called_in_training():
    seen = []

    class Old(Callback):
        def on_batch_end(self, batch, logs=None):
            seen.append(batch)

    fit(compiled(), callbacks=[Old()])
    assert seen == [0, 1, 2]


def test_a_callback_may_be_anything_with_the_hooks():
    class Duck:
        def __init__(self):
            self.epochs = []

        def __getattr__(self, name):
            if name.startswith(("on_", "set_")):
                return lambda *args, **kwargs: self.epochs.append(name)
            raise AttributeError(name)

    duck = Duck()
    fit(compiled(), callbacks=[duck])
    assert "on_epoch_end" in duck.epochs and "on_train_batch_end" in duck.epochs


def test_nested_lists_of_callbacks_and_appending():
    stop = callbacks.EarlyStopping("loss")
    found = CallbackList([[stop], [callbacks.History()]], add_history=True, add_progbar=True)
    assert [type(c).__name__ for c in found.callbacks] == [
        "EarlyStopping",
        "History",
        "ProgbarLogger",
    ]
    found.append(callbacks.TerminateOnNaN())
    with pytest.raises(ArgumentError, match="callbacks"):
        found.append(3)


def test_monitors_need_a_direction():
    model = compiled()
    with pytest.raises(ArgumentError, match="mode='max'"):
        fit(model, callbacks=[callbacks.EarlyStopping("something")])
    with pytest.warns(UserWarning, match="mode 'up' is unknown"):
        callbacks.EarlyStopping(mode="up")
    for callback in (callbacks.EarlyStopping(mode="min"), callbacks.ReduceLROnPlateau(mode="min")):
        with pytest.warns(UserWarning, match="`val_loss` which is not available"):
            fit(compiled(), callbacks=[callback])
    with pytest.raises(ArgumentError, match=r"factor=1\.5"):
        callbacks.ReduceLROnPlateau(factor=1.5)


def test_schedules_return_floats():
    with pytest.raises(ArgumentError, match="should be a float"):
        fit(compiled(), callbacks=[callbacks.LearningRateScheduler(lambda epoch, rate: "fast")])


def test_learning_rates_fall_on_a_plateau(capsys):
    model = compiled()
    plateau = callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=100.0, verbose=1)
    history = fit(model, epochs=3, callbacks=[plateau])
    np.testing.assert_allclose(history.history["learning_rate"], [0.01, 0.01, 0.001], rtol=1e-6)
    assert "reducing learning rate" in capsys.readouterr().out


# -- progress bars -------------------------------------------------------------------------------


def test_a_bar_without_a_target_counts(capsys):
    bar = callbacks.Progbar(None)
    bar.update(3, [("loss", 0.5)], finalize=True)
    assert capsys.readouterr().out.startswith("      3/Unknown 0s")


def test_a_bar_in_a_file_writes_one_line(capsys):
    bar = callbacks.Progbar(1000)
    for _ in range(1000):
        bar.add(1, [("loss", 2.0)])
    text = capsys.readouterr().out
    assert text.count("\n") == 1 and "\r" not in text and "\x1b" not in text
    assert text.startswith("1000/1000 ━━━━━━━━━━━━━━━━━━━━ 0s ") and "loss: 2.0000" in text


def test_signs_that_an_encoding_lacks_become_plain(monkeypatch):
    import io

    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="cp1252"))
    callbacks.Progbar(2).update(2)
    assert raw.getvalue().startswith(b"2/2 ====================")


def test_both_kinds_of_metrics_are_too_many():
    with pytest.raises(ArgumentError, match="Only one"):
        callbacks.Progbar(1, stateful_metrics=["a"], stateless_metrics=["b"])


def test_averages_over_steps(capsys):
    bar = callbacks.Progbar(4, interval=0)
    for step, value in enumerate([1.0, 2.0, 6.0]):
        bar.update(step + 1, [("value", value)])
    bar.update(4)
    assert "value: 3.0000" in capsys.readouterr().out


def test_long_times_and_small_numbers():
    from gpunet.callbacks.progbar import _clock, _duration, _number

    assert [_clock(s) for s in (5, 75, 3700)] == ["5s", "1:15", "1:01:40"]
    assert [_duration(s) for s in (2, 0.003, 4e-6)] == ["2s", "3ms", "4us"]
    assert [_number(v, 1) for v in (0.5, 1e-5, "text")] == ["0.5000", "1.0000e-05", "text"]
