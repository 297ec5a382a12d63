"""A self-contained HTML page about one run or several; see `iwae_tf.report.page`."""
