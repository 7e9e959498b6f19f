"""Tests of measuring on phones, before the phone double."""
