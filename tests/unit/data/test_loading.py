import subprocess
import sys

import pytest

from iwae_tf.data import load, registry
from iwae_tf.errors import InputError


def test_an_unknown_name_gets_the_nearest_one_and_the_way_to_own_data():
    with pytest.raises(InputError, match=r"'binarised_mnist': did you mean 'binarized_mnist'\? .*path of a \.npz file"):
        load("binarised_mnist")


@pytest.mark.parametrize("name", ["", "images.npy", "MNIST", "None"])
def test_no_other_name_is_taken(name):
    with pytest.raises(InputError, match="unknown dataset"):
        load(name)


@pytest.mark.parametrize("name", registry.FILES)
def test_a_folder_that_is_not_there_is_said_with_the_files_it_should_hold(tmp_path, name):
    with pytest.raises(InputError, match=r"away is not a folder; .* with a folder that holds ") as error:
        load(name, tmp_path / "away")
    assert registry.FILES[name] in str(error.value)
    assert "\n" not in str(error.value)


def test_digits_need_no_folder(tmp_path):
    assert load("digits", tmp_path / "away").name == "digits"


def test_every_name_but_digits_has_its_files():
    assert list(registry.FILES) == [name for name in registry.DATASETS if name != "digits"]


def test_importing_the_data_room_imports_nothing_heavy(pytestconfig):
    # The package itself may import TensorFlow; an empty stand-in for it leaves the room alone to be looked at.
    code = (
        "import sys, types; package = types.ModuleType('iwae_tf'); package.__path__ = ['iwae_tf'];"
        "sys.modules['iwae_tf'] = package; import iwae_tf.data;"
        "print([m for m in ('tensorflow', 'tensorflow_datasets', 'scipy', 'sklearn', 'absl') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=pytestconfig.rootpath, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
