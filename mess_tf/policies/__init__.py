"""Exit policies: how sure an exit is of its answer, per image."""
