"""Tests of data sets, augmentation and batches."""
