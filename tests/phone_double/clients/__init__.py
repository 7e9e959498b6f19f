"""What talks to the double in tests: Google's adb, a minimal client."""
