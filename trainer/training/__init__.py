"""One run: batches, compiled steps, monitors, and the loop around them."""
