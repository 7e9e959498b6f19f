"""The report: what a run found, gathered into records and drawn as one HTML page."""
