"""Data: sources of images with label maps, parts, augmentation and batches.

``sources`` holds the interface and opens a source by kind; ``batches`` is the only
module that imports Keras.
"""
