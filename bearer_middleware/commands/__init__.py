"""The commands: each is a function of its input that returns the exit status."""
