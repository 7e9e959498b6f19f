"""Quantisation-aware training of a chosen network, and its way to int8 pieces."""
