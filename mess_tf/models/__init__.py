"""Backbones and heads, as functions that add layers to a flat functional model."""
