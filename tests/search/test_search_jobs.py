"""Many searches at once: a Dask cluster gives what one after the other gives."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from mess_tf.core.errors import MessError
from mess_tf.core.json_files import to_json
from search.infeasible import InfeasibleError
from search.jobs import SearchJob, run_jobs
from search.parameters import SearchParameters
from search.requirement import Requirement
from tests.support.search_problems import tiny_latencies, tiny_spec, tiny_statistics


@pytest.fixture
def case():
    rng = np.random.default_rng(7)
    spec = tiny_spec((2, 2, 2))
    statistics = tiny_statistics(spec, rng, 8, 4, 2, 5)
    devices = [tiny_latencies(spec, rng) for _ in range(2)]
    wishes: list[Any] = [Requirement(max_drop_pp=d) for d in (0, 2, 5)]
    wishes += [Requirement(min_miou=1.0, max_latency_ms=0.0), None]
    jobs = [
        SearchJob(
            latency_ms, wish, SearchParameters(max_early_exits=2 if wish is None else 3)
        )
        for latency_ms in devices
        for wish in wishes
    ]
    return statistics, spec, jobs


def plain(answer):
    """All of an answer but the time it took."""
    if isinstance(answer, MessError):
        return type(answer), str(answer)
    if isinstance(answer, tuple):
        return answer
    return {k: v for k, v in to_json(answer).items() if k != "wall_s"}


@pytest.mark.slow
def test_dask_gives_the_same_bit_for_bit(case):
    distributed = pytest.importorskip("distributed")
    statistics, spec, jobs = case
    wanted = [plain(answer) for answer in run_jobs(statistics, spec, jobs)]
    assert sum(kind is InfeasibleError for kind, *_ in wanted) == 2
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        found = list(run_jobs(statistics, spec, jobs, "dask", address))
    assert [plain(answer) for answer in found] == wanted


def test_what_cannot_be_used_is_refused(case):
    statistics, spec, jobs = case
    with pytest.raises(MessError, match="Engine 'spark' is unknown; accepted"):
        next(run_jobs(statistics, spec, jobs, engine=cast(Any, "spark")))
    with pytest.raises(MessError, match="only 'dask' has one"):
        next(
            run_jobs(
                statistics, spec, jobs, engine="local", scheduler="tcp://127.0.0.1:1"
            )
        )
    pytest.importorskip("distributed")
    with pytest.raises(MessError, match=r"No Dask scheduler answers at tcp://.*:1 "):
        next(
            run_jobs(
                statistics,
                spec,
                jobs,
                engine="dask",
                scheduler="tcp://127.0.0.1:1",
                scheduler_timeout_s=0.2,
            )
        )
