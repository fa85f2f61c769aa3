"""A page to draw on, and what a trained run guesses: `quickdraw sketchpad`."""
