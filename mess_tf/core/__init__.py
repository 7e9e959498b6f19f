"""What all packages share: records, files, figures; numpy at most."""
