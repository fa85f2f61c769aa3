"""A trained run in use: in Python, in other programs' formats, on a page."""
