"""The commands under `python -m iwae_tf`; none imports TensorFlow before its flags are found to be right."""
