"""How many tasks are carried out: in this process, in several, or on a Ray cluster; and how progress is reported."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import MappingProxyType
from typing import Any, Protocol

from segkit.errors import MissingExtraError, SegkitError, UsageError, nearest

ENGINES = ("local", "ray")


class Hook(Protocol):
    """Called with the progress of what takes longer."""

    def __call__(self, stage: str, done: int, total: int, facts: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Called now and then, and at the end of each stage.

        Args:
            stage: what is done, such as "annotating" or "sampling".
            done: how much of it.
            total: of how much.
            facts: of `segkit extract`: `hours` of audio done, and segments per axis; of the stage "steps" of `segkit
                align`: the metrics of the step.
        """


def nobody(stage: str, done: int, total: int, facts: Mapping[str, Any] = MappingProxyType({})) -> None:
    """A hook that reports nothing."""


def cores() -> int:
    """How many processes this machine has cores for."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], workers: int, engine: str = "local"
) -> Iterator[tuple[int, Any]]:
    """Call `function(*task)` for every task; yields (index of the task, result) as they finish.

    Args:
        function: a function of a module, that workers import.
        tasks: arguments that can be pickled.
        workers: processes on this machine; 1 stays in this one. Ray sizes itself by its cluster.
        engine: "local" or "ray".
    """
    if engine not in ENGINES:
        raise UsageError(f"Unknown engine {engine!r}. {nearest(engine, ENGINES)}")
    if engine == "ray" and tasks:
        return _on_ray(function, tasks)
    if workers == 1 or len(tasks) <= 1:
        return ((i, function(*task)) for i, task in enumerate(tasks))
    return _in_processes(function, tasks, min(workers, len(tasks)))


def _in_processes(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[tuple[int, Any]]:
    # spawn, not fork: a forked torch can hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(function, *task): i for i, task in enumerate(tasks)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise SegkitError(
                "A worker process died, most likely of too little memory. What was finished is kept: start "
                "the same command again, with fewer --workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _on_ray(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
    """One Ray task each; joins the cluster of `RAY_ADDRESS`, or starts one on this machine.

    Every node must see the corpus and the dataset folder under the same paths.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtraError("--engine ray", "ray", "ray") from None

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, include_dashboard=False)
    try:
        remote = ray.remote(num_cpus=1)(function)
        pending = {remote.remote(*task): i for i, task in enumerate(tasks)}
        while pending:
            for done in ray.wait(list(pending))[0]:
                yield pending.pop(done), ray.get(done)
    finally:
        if started:
            ray.shutdown()
