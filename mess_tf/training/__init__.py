"""Two-stage training of a supernet, on any Keras backend."""
