"""Figures and tables as files: PNG, SVG and CSV."""
