"""What can be trained, through `save`, `load_model`, `clone_model`, `EarlyStopping` and another objective."""

import keras
import numpy as np
import pytest
from small_models import binary_images, small_model

from iwae_tf import InputError
from iwae_tf.adam import Adam
from iwae_tf.objectives import CIWAE, IWAEBound

X = binary_images(8)


def compiled(objective=None, **sizes):
    model = small_model(**sizes)
    model.compile(Adam(0.1), objective=objective or IWAEBound(2))
    return model


def learning():
    return CIWAE(2, beta=0.4, learn_beta=True)


FREEZE = {
    "inference network": lambda model: setattr(model.inference_network, "trainable", False),
    "one hidden layer": lambda model: setattr(model.generative_network.stages[0].hidden.dense[0], "trainable", False),
    "all but a head": lambda model: (
        setattr(model, "trainable", False),
        setattr(model, "trainable", True),
        setattr(model.generative_network, "trainable", False),
        setattr(model.generative_network.stages[-1].head, "trainable", True),
    ),
}


@pytest.mark.parametrize("name", FREEZE)
@pytest.mark.parametrize("compiled_last", [True, False])
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")  # where it was compiled before
def test_frozen_layers_stay_frozen_in_a_file_and_in_a_copy(name, compiled_last, tmp_path):
    model = compiled()
    FREEZE[name](model)
    if compiled_last:
        model.compile(Adam(0.1), objective=IWAEBound(2))
    frozen = [not variable.trainable for variable in model.weights]
    assert sum(frozen) > 1  # the number of batches is never trained
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    for other in (loaded, keras.models.clone_model(model)):
        assert [not variable.trainable for variable in other.weights] == frozen
    assert [v.shape for v in loaded.trainable_variables] == [v.shape for v in model.trainable_variables]
    assert len(loaded.optimizer.variables) == 2 + 2 * len(loaded.trainable_variables)


def test_frozen_weights_stand_still_and_freezing_asks_for_another_compile():
    model = compiled()
    model.fit(X, verbose=0)
    model.inference_network.trainable = False
    for train in (lambda: model.fit(X, verbose=0), lambda: model.train_on_batch(X)):
        with pytest.raises(InputError, match=r"frozen or unfrozen after compile.*compile again"):
            train()
    model.compile(Adam(0.1), objective=IWAEBound(2))
    before, learned = model.inference_network.get_weights(), model.generative_network.get_weights()
    model.fit(X, verbose=0)
    np.testing.assert_equal(model.inference_network.get_weights(), before)
    assert (model.generative_network.get_weights()[0] != learned[0]).any()
    model.trainable = False
    model.compile(Adam(0.1), objective=IWAEBound(2))
    with pytest.raises(InputError, match="every layer is frozen"):
        model.fit(X, verbose=0)


def test_what_an_objective_learns_is_a_weight_that_early_stopping_restores():
    model, seen = compiled(learning()), []

    class Worse(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append([float(model.objective.current_beta()), *map(np.sum, model.get_weights())])
            logs["val_bound"] = -epoch

    stopping = keras.callbacks.EarlyStopping("val_bound", mode="max", patience=1, restore_best_weights=True)
    model.fit(X, epochs=3, verbose=0, callbacks=[Worse(), stopping])
    assert len(seen) == 2
    assert seen[0][0] != seen[1][0]
    np.testing.assert_equal([float(model.objective.current_beta()), *map(np.sum, model.get_weights())], seen[0])
    assert model.count_params() == compiled().count_params() + 1
    assert model.weights[-1] is model.objective.state.logit is model.trainable_variables[-1]


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_weights_of_a_model_with_another_objective_are_loaded_refused_or_warned_of(tmp_path):
    plain, learned = compiled(), compiled(learning(), seed=1)
    for name, model in (("plain", plain), ("learned", learned)):
        model.save_weights(tmp_path / f"{name}.weights.h5")
    before = learned.get_weights()
    with pytest.raises(InputError, match=r"nothing that the objective ciwae has learned: load the weights before comp"):
        learned.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_equal(learned.get_weights(), before)
    with pytest.warns(UserWarning, match="what its objective has learned is left out"):
        plain.load_weights(tmp_path / "learned.weights.h5")
    np.testing.assert_equal(plain.get_weights(), before[:-1])
    other = small_model()
    other.load_weights(tmp_path / "plain.weights.h5")  # then compiled for any objective
    other.compile(objective=learning())
    with pytest.raises(FileNotFoundError):
        plain.load_weights(tmp_path / "none.weights.h5")
