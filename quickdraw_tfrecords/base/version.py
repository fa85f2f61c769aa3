"""The version of the package, for its metadata and for the manifest."""

__version__ = "0.1.0"
