"""What every command and module stands on: errors, files, processes, names."""
