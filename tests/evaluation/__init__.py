"""Tests of metrics and of evaluating exits."""
