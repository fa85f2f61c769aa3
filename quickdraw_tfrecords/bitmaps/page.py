"""The page that Google's bitmaps are drawn on: the published proportions.

https://github.com/googlecreativelab/quickdraw-dataset/issues/19: the middles of the outermost
lines fit a box of 256 units, a line is 16 units wide, and 16 units of padding surround the ink.
"""

EXTENT = 256  # of the box that the middles of the lines fit
LINE_WIDTH = 16
PADDING = 16  # outside the ink, which reaches half a line beyond the box
MARGIN = PADDING + LINE_WIDTH // 2
PAGE_SIZE = EXTENT + 2 * MARGIN
