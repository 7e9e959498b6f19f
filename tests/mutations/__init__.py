"""Deliberate bugs, each of which the default tests have to see."""
