"""Tests of the repository: layers, packaging, commands' options, pages."""
