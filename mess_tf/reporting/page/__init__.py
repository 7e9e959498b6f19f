"""The page itself: templates, style, script, and what is drawn into it."""
