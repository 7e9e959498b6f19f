"""Tests of quantisation-aware training."""
