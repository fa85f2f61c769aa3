"""From a source to a data set: plan, filter, write, publish."""
