"""Doors between packages: functions named by text, opened only when they are called.

The packages import nothing of one another. Where a command needs two of them, it asks
here for a function by its short name; so no import edge appears, and nothing heavy is
imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

from mess_tf.errors import MessError

DOORS = {
    "list_devices": "android_bench.devices:list_devices",
    "open_device": "android_bench.devices:open_device",
    "profile": "android_bench.profile:profile",
    "run_inference": "android_bench.measure:run_inference",
    "compare": "android_bench.compare:compare",
    "store": "android_bench.store:Store",
    "shown": "android_bench.store_errors:shown",
    "check_csv": "android_bench.tables:check_csv",
    "rounds_path": "android_bench.tables:rounds_path",
    "write_csv": "android_bench.tables:write_csv",
    "choose_files": "android_bench.latency_model.learn:choose_files",
    "predict_files": "android_bench.latency_model.learn:predict_files",
    "model_file": "android_bench.records:ModelFile",
    "measure_settings": "android_bench.records:MeasureSettings",
    "search": "search.run:search",
    "answer_all": "search.jobs:answer_all",
    "job": "search.jobs:Job",
    "pick": "search.finalists:pick",
    "infeasible_error": "search.infeasible:InfeasibleError",
    "requirement": "search.requirement:Requirement",
    "resources": "search.resources:Resources",
    "guarantee": "search.guarantee:Guarantee",
    "hypervolume": "search.pareto:hypervolume",
    "load_results": "search.result:load_results",
    "save_results": "search.result:save_results",
    "save_pareto": "search.pareto:save_pareto",
    "load_pareto": "search.pareto:load_pareto",
    "leave_at": "search.evaluate:leave_at",
}


def open_door(name: str) -> Any:
    """What stands behind a short name of ``DOORS``.

    Raises:
        MessError: there is no such door.
    """
    if name not in DOORS:
        raise MessError(f"No door named {name!r}; there are {', '.join(DOORS)}.")
    return resolve(DOORS[name])


def resolve(target: str) -> Any:
    """Imports ``"module:name"`` and returns the named object."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
