"""Phones as devices: what they are, their state, the tool there, rounds, faults."""
