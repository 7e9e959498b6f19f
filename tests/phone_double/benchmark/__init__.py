"""The stand-in of TFLite's benchmark tool."""
