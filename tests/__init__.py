"""Tests of the project; the helpers they share are in ``tests.support``."""
