"""What spoils a data set: drawings without ink, or the same twice. `quickdraw audit`."""
