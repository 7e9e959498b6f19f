"""Tests of the core: files, quantiles, routing, records."""
