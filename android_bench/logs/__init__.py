"""Reads what Google's benchmark_model prints; text in, frozen records out."""
