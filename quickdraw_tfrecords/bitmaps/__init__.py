"""From strokes or pictures to bitmaps, and what may be wrong with a bitmap."""
