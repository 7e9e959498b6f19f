"""Tests of what only benchmarks use."""
