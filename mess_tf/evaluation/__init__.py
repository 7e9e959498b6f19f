"""What every head does on every image: the statistics that the search works on."""
