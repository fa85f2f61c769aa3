"""The data set on disk: its records, its shards, its manifest. No TensorFlow."""
