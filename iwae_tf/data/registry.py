"""The names there are, and what a folder must hold to be read as each of them.

Imports nothing heavy, so that `--help` can list the names.
"""

from iwae_tf.errors import InputError

DATASETS = {
    "digits": "scikit-learn's handwritten digits, 1,797 images of 8x8 in 17 grey levels; comes with the installation",
    "mnist": "handwritten digits, 70,000 images of 28x28 in 256 grey levels",
    "binarized_mnist": "the fixed binarization of MNIST, 70,000 images of 28x28 in black and white",
    "omniglot": "characters of 50 alphabets, 32,000 images of 28x28",
    "fashion_mnist": "pieces of clothing, 70,000 images of 28x28 in 256 grey levels",
}

_IDX = "train-images-idx3-ubyte[.gz] and t10k-images-idx3-ubyte[.gz]"

# What `data_dir` may hold, as the error message names it.
FILES = {
    "mnist": f"{_IDX}, or mnist.npz (x_train, x_test), or TFDS's prepared folder mnist/",
    "binarized_mnist": (
        "binarized_mnist_train.amat, binarized_mnist_valid.amat and binarized_mnist_test.amat, or "
        "binarized_mnist.npz (x_train, x_valid, x_test), or TFDS's prepared folder binarized_mnist/"
    ),
    "omniglot": "chardata.mat (data, testdata), or TFDS's prepared folder omniglot/",
    "fashion_mnist": f"{_IDX}, or fashion_mnist.npz (x_train, x_test), or TFDS's prepared folder fashion_mnist/",
}


def missing_data(name: str, tried: str) -> InputError:
    """The error for a data set that is not on this machine: what was tried, and the two ways to get it.

    Args:
        name: a key of `FILES`.
        tried: what was tried and why it gave nothing.

    Returns:
        An `InputError` to raise.
    """
    return InputError(
        f"no data for {name!r}: {tried}; either connect to the network and run again without --data-dir, so that "
        f"TensorFlow Datasets (TFDS) downloads it, or give --data-dir with a folder that holds {FILES[name]}"
    )
