"""Commands around the data set and the trainer, each `python -m tools.NAME`."""
