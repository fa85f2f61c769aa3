"""The commands that make a data set and look at one."""
