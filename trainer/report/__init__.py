"""The report of a run: one self-contained page, and its pictures for TensorBoard."""
