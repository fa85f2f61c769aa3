"""What a trained model makes of a split: predictions, metrics, comparisons."""
