"""This computer as a device: a child process runs the models and takes the time."""
