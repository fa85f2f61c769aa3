"""What a run leaves on disk: checkpoints, logs, and the facts to reopen it."""
