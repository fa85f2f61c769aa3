"""A page to draw on, and what a trained run guesses: `python -m tools.sketchpad`."""
