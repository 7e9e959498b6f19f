"""Tests of compiling, slicing, linking and exporting."""
