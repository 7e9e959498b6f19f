"""Lets the tests import the helper module beside them (importlib mode does not)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
