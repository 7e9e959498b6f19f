"""Tests of the report page and its figures."""
