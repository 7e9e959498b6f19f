"""What holds on images nobody searched on: robust choices, guarantees, transfer."""
