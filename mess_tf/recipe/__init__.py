"""Recipes: what a run is asked for, as checked TOML."""
