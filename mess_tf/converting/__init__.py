"""From one Keras graph to one verified flatbuffer of a precision."""
