"""From a Keras supernet to verified ``.tflite`` pieces, and from pieces to one file."""
