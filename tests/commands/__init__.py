"""Tests of whole commands, and of the whole way from data to report."""
