"""Apache Beam instead of this host's processes: Spark, Flink, Dataflow or Beam itself runs the same functions.

Synopsis::

    pool = beam_pool.Pool("--runner=SparkRunner ...", scratch="/shared/out")
    for result in pool.ordered(function, tasks): ...        # as process_pool.map_ordered yields them

The functions are those of the local pool, so the results are the same. The files that a task reads and writes, and the
folder `scratch`, must lie on storage that this process and all of Beam's workers see under the same path.
"""

import contextlib
import importlib
import logging
import os
import pickle
import secrets
import shlex
import shutil
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from crackflow.core import atomic
from crackflow.core.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


@contextlib.contextmanager
def _suppress_logging() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def load() -> types.ModuleType:
    """Loads the package. Raises: UserError where it is not installed."""
    try:
        with _suppress_logging():  # it logs which cloud packages are missing
            importlib.import_module("apache_beam.options.pipeline_options")
            return importlib.import_module("apache_beam")
    except ImportError as error:
        raise UserError(
            "--runner=beam: this needs apache-beam, which is not installed; see docs/SCALING.md for an environment "
            "that has it, or use --runner=local"
        ) from error


class Pool:
    """Runs functions as Beam pipelines with the command-line `options`; the default is Beam's own runner."""

    def __init__(self, options: str, scratch: str) -> None:
        self._beam, self._options, self._scratch = load(), shlex.split(options), scratch

    def ordered(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yields `function(task)` for each task, in the order of the tasks, after one pipeline has finished all of
        them.
        """
        numbered = list(enumerate(tasks))
        folder = os.path.join(self._scratch, f"beam-{secrets.token_hex(4)}.tmp")
        os.makedirs(folder)
        try:
            pipeline = self._pipeline()
            (
                pipeline
                | "tasks" >> self._beam.Create(numbered)
                | "spread" >> self._beam.Reshuffle()
                | "work" >> self._beam.Map(_run_task, function, folder)
            )
            with _suppress_logging():  # a failure raises an exception that holds the text of ours
                pipeline.run().wait_until_finish()
            for number, _ in numbered:
                with open(_result_path(folder, number), "rb") as file:
                    yield pickle.load(file)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _pipeline(self) -> Any:
        """Raises: UserError when Beam can't use the options."""
        try:
            return self._beam.Pipeline(options=self._beam.options.pipeline_options.PipelineOptions(self._options))
        except (ValueError, AttributeError, ImportError, SystemExit) as error:
            raise UserError(
                f"--beam_options: expected options of a Beam pipeline, received {shlex.join(self._options)!r}: {error}"
            ) from error


def _run_task(numbered: tuple[int, Task], function: Callable[[Task], Result], folder: str) -> None:
    """Runs on a worker. A bundle that Beam runs twice writes the same result twice, completely each time."""
    number, task = numbered
    atomic.write_bytes(_result_path(folder, number), pickle.dumps(function(task), pickle.HIGHEST_PROTOCOL))


def _result_path(folder: str, number: int) -> str:
    return os.path.join(folder, f"{number:08d}.pickle")
