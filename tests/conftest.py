"""Settings for all tests that must stand before TensorFlow is imported; helpers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()
# Two test processes share two cores: pools of threads would only get in the way.
for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from hypothesis import HealthCheck, settings  # noqa: E402

# No deadline: on a busy machine it measures the machine. Derandomised, so that a green
# suite stays green; `--hypothesis-seed=random` looks further.
settings.register_profile(
    "project",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")

# The files that take longest, longest first: begun last, one would run on alone.
LONG_FILES = (
    "training/test_whole_training.py",
    "commands/test_whole_way.py",
    "phone/reached/test_phone_faults.py",
    "quantise/test_quantise_pieces.py",
    "quantise/test_quantise_deploy.py",
    "phone/reached/test_phone_many.py",
    "quantise/test_quantise_training.py",
    "quantise/test_quantise_command.py",
    "compile/test_compile_random.py",
    "compile/test_compile_resnet.py",
)

# A job in the background ignores Ctrl-C, one under nohup the end of its terminal, and
# what it starts does so too, unless it has a handler: then only it ignores them.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

ROOT = Path(__file__).resolve().parents[1]
pytest_plugins = ["tests.phone_double.fixtures"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the data that some tests use and the project does not ship."""
    folder = Path(os.environ.get("MESS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set MESS_SHARED_DATA to its folder")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files go first (with ``--no-loadscope-reorder``)."""
    tests = ROOT / "tests"

    def rank(item: pytest.Item) -> int:
        name = item.path.relative_to(tests).as_posix()
        return LONG_FILES.index(name) if name in LONG_FILES else len(LONG_FILES)

    items.sort(key=rank)
