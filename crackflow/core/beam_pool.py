"""Apache Beam in the place of this host's processes: the same functions, run by Spark, Flink, Dataflow or Beam itself.

Synopsis::

    pool = beam_pool.Pool("--runner=SparkRunner ...", scratch="/shared/out")
    for result in pool.ordered(function, tasks): ...        # as process_pool.map_ordered gives them

The functions are those of the local pool, so the results are the same. What a task reads, what it writes and the folder
`scratch` must lie on storage that this process and all of Beam's workers see under the same path.
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
from typing import TypeVar

from crackflow.core import atomic
from crackflow.core.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def load() -> types.ModuleType:
    """The package. Raises: UserError where it is not installed."""
    try:
        with _quiet():  # it tells of cloud packages that are not there
            importlib.import_module("apache_beam.options.pipeline_options")
            return importlib.import_module("apache_beam")
    except ImportError as error:
        raise UserError(
            "--runner=beam: this needs apache-beam, which is not installed; see docs/SCALING.md for an environment "
            "that has it, or use --runner=local"
        ) from error


class Pool:
    """Runs functions as Beam pipelines with `options`, as a command line holds them; no --runner: Beam's own."""

    def __init__(self, options: str, scratch: str) -> None:
        self._beam, self._options, self._scratch = load(), shlex.split(options), scratch

    def ordered(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """`function(task)` for each task, in the order of the tasks, after all are done: one pipeline."""
        numbered = list(enumerate(tasks))
        folder = os.path.join(self._scratch, f"beam-{secrets.token_hex(4)}.tmp")
        os.makedirs(folder)
        try:
            pipeline = self._pipeline()
            (
                pipeline
                | "tasks" >> self._beam.Create(numbered)
                | "spread" >> self._beam.Reshuffle()
                | "work" >> self._beam.Map(_work, function, folder)
            )
            with _quiet():  # what goes wrong comes as an exception, with the text of ours in it
                pipeline.run().wait_until_finish()
            for number, _ in numbered:
                with open(_place(folder, number), "rb") as file:
                    yield pickle.load(file)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _pipeline(self):
        """Raises: UserError when Beam can't use the options."""
        try:
            return self._beam.Pipeline(options=self._beam.options.pipeline_options.PipelineOptions(self._options))
        except (ValueError, AttributeError, ImportError, SystemExit) as error:
            raise UserError(
                f"--beam_options: expected options of a Beam pipeline, received {shlex.join(self._options)!r}: {error}"
            ) from error


def _work(numbered: tuple[int, Task], function: Callable[[Task], Result], folder: str) -> None:
    """On a worker. A bundle that Beam runs twice writes the same result twice, each time whole."""
    number, task = numbered
    atomic.write_bytes(_place(folder, number), pickle.dumps(function(task), pickle.HIGHEST_PROTOCOL))


def _place(folder: str, number: int) -> str:
    return os.path.join(folder, f"{number:08d}.pickle")
