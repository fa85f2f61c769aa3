"""From strokes and pictures to bitmaps, and what may be wrong with a bitmap."""
