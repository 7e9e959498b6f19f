"""Charts as plain records: computed here once, drawn by the page and the figures."""
