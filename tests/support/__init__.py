"""What several test files share: drawn inputs, small networks, hand-made runs."""
