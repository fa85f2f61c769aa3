"""From a data set to batches: order, blocks, windows, `tf.data`."""
