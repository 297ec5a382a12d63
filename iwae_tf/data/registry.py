"""Names of data sets with a line of help, for the flag `--dataset`."""

from iwae_tf.declarations import declared

DATASETS = {name: declaration.help for name, declaration in declared("dataset").items()}
