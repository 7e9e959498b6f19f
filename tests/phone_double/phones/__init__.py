"""Which phone it is, what state it is in, and what it says of both."""
