"""Reaches phones over adb: directly, or through a server that already runs."""
