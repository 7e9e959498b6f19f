"""What a person at a terminal sees: progress, and nothing of the libraries."""
