"""The commands that use a trained run."""
