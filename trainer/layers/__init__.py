"""Layers of the trainer's models: Keras' own, computed in fewer bytes, and some that it lacks."""
