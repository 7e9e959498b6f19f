"""Tests of networks, heads and exit policies."""
