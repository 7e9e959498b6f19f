"""Reading, building and writing flatbuffers of the TFLite schema."""
