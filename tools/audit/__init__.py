"""What spoils a data set: drawings without ink, or the same twice. `python -m tools.audit`."""
