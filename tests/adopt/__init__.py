"""Tests of importing a user's network."""
