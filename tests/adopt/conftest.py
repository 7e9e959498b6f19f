"""Lets the tests of this folder share the small networks."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # adopt_cases.py
