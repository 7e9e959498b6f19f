"""Running pieces and exported files in LiteRT; no TensorFlow."""
