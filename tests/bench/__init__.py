"""Tests of measuring: devices, logs, the store, the latency model."""
