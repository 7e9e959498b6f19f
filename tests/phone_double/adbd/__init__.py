"""The daemon's side of the wire: messages, keys, streams, connections."""
