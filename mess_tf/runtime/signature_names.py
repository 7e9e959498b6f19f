"""Names of the inputs, outputs and signatures of the files that are exported."""

from __future__ import annotations

LOGITS = "logits"
CLASSES = "classes"
EXIT = "exit"
THRESHOLDS = "thresholds"
SERVE = "serve"  # the signature that decides by itself
CONFIDENCE = "confidence"
