"""What can go wrong, in two kinds: the request was wrong, or the world was."""


class UsageError(ValueError):
    """A flag or argument that cannot be honoured. Commands exit with code 2."""


class DataError(RuntimeError):
    """Data that is missing, damaged or not what was promised. Commands exit with code 1."""
