"""Many searches at once: devices and requirements, one after the other or on Dask.

A search is deterministic, so both ways give the same results; only the time taken and,
where a time limit ends a search before the proof, how far it came can differ.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mess_tf.core.errors import MessError
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from search.parameters import SearchParameters
from search.pareto import ParetoPoint, pareto_front
from search.requirement import Requirement
from search.resources import Resources
from search.result import SearchResult
from search.run import search
from search.solver.branch_and_bound import ProgressCall

Engine = Literal["local", "dask"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

# Each search uses two threads itself.
LOCAL_WORKERS = 2
SCHEDULER_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class SearchJob:
    """One call of ``search`` or ``pareto_front``.

    Attributes:
        latency_ms: by piece name, of the device that is searched for.
        requirement: None asks for the Pareto front.
        parameters: the space, the time limit and what else is asked of the result.
        name: of the result.
        resources: bytes of the pieces, for limits of size or memory.
    """

    latency_ms: Mapping[str, float]
    requirement: Requirement | None
    parameters: SearchParameters
    name: str = "chosen"
    resources: Resources | None = None


JobResult = SearchResult | tuple[ParetoPoint, ...] | MessError


def run_job(
    statistics: Statistics,
    spec: SupernetSpec,
    job: SearchJob,
    progress: ProgressCall | None = None,
) -> JobResult:
    """The result of one job, or the error why there is none, as a value."""
    try:
        if job.requirement is None:
            return pareto_front(
                statistics, spec, job.latency_ms, job.parameters, progress=progress
            )
        return search(
            statistics,
            spec,
            job.latency_ms,
            job.requirement,
            job.parameters,
            name=job.name,
            resources=job.resources,
            progress=progress,
        )
    except MessError as error:
        return error


def run_jobs(
    statistics: Statistics,
    spec: SupernetSpec,
    jobs: Sequence[SearchJob],
    engine: Engine = "local",
    scheduler: str | None = None,
    progress: ProgressCall | None = None,
    scheduler_timeout_s: float = SCHEDULER_TIMEOUT_S,
) -> Iterator[JobResult]:
    """Results of jobs, in their order; each as soon as it and those before are there.

    Args:
        engine: ``local``: one after the other; ``dask``: spread over a cluster.
        scheduler: address of a Dask cluster, e.g. ``tcp://10.0.0.5:8786``, whose
            workers have this package; None starts a cluster of two workers here.
        progress: called with each search's progress; by ``local`` only.
        scheduler_timeout_s: longest wait for the scheduler's first answer, seconds.

    Raises:
        MessError: the engine is unknown or not installed, or the cluster is out of
            reach or loses its workers.
    """
    if engine not in ENGINES:
        raise MessError(f"Engine {engine!r} is unknown; accepted: {ENGINES}.")
    if scheduler is not None and engine != "dask":
        raise MessError(
            f"A scheduler ({scheduler}) was given for engine {engine!r}; only 'dask'"
            " has one."
        )
    if engine == "local":
        for job in jobs:
            yield run_job(statistics, spec, job, progress)
        return
    with _cluster(scheduler, scheduler_timeout_s):
        yield from _on_dask(statistics, spec, jobs)


def _on_dask(
    statistics: Statistics, spec: SupernetSpec, jobs: Sequence[SearchJob]
) -> Iterator[JobResult]:
    import joblib
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        # The statistics are large and the same for all: they travel once.
        with joblib.parallel_config(backend="dask", scatter=[statistics, spec]):
            calls = (joblib.delayed(run_job)(statistics, spec, job) for job in jobs)
            yield from joblib.Parallel(return_as="generator")(calls)
    except (KilledWorker, CommClosedError) as error:
        raise MessError(
            f"The Dask cluster lost its workers ({type(error).__name__}: {error}); give"
            " them more memory, or use --engine local."
        ) from error


@contextlib.contextmanager
def _cluster(scheduler: str | None, timeout_s: float) -> Iterator[None]:
    """Makes a Dask cluster the one that joblib uses."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise MessError(
            "Engine 'dask' needs Dask: pip install 'mess-tf[dask]'."
        ) from error
    with contextlib.ExitStack() as stack:
        address: str | LocalCluster
        if scheduler is None:
            address = stack.enter_context(
                LocalCluster(
                    n_workers=LOCAL_WORKERS,
                    threads_per_worker=1,
                    dashboard_address=None,
                )
            )
        else:
            address = scheduler
        try:
            stack.enter_context(Client(address, timeout=timeout_s))
        except (OSError, ValueError) as error:
            raise MessError(
                f"No Dask scheduler answers at {scheduler} ({error}); start one with"
                " `dask scheduler`, or leave --scheduler out."
            ) from error
        yield
