"""The sketchpad as a folder for any static host, with the model in the browser."""
