"""A phone to develop against: an adb daemon on loopback with a real shell behind it."""
