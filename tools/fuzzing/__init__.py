"""Hostile input for every parser of this project, made from a seed: `python -m tools.fuzz`."""
