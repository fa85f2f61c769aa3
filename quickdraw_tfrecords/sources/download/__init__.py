"""Google's bitmaps, fetched as byte ranges over HTTP."""
