"""Keras Tuner's oracles, which choose the trials of a search: stored on disk so that no trial is lost or repeated, and
shared by several workers over Keras Tuner's own gRPC service.

Synopsis::

    search_oracle = oracle.create_oracle(config, "search/oracle.json")            # resumes from the file
    trial = search_oracle.create_trial("worker-0")                                # .status, .hyperparameters
    search_oracle.update_trial(trial.trial_id, {"score": 0.99}); search_oracle.end_trial(trial)

    with oracle.serve(search_oracle, "127.0.0.1:5050", on_trial_end=save):        # the chief
        ...
    remote = oracle.RemoteOracle("127.0.0.1:5050", "worker-0")        # a worker: the same calls, answered by the chief

This module works around these faults of keras-tuner 1.4.8: it writes oracle and trials to several files, none of them
atomically, and a kill between two writes loses a trial or repeats it; its grid search does not remember its position;
its Bayesian search may repeat a trial, and replaces seed 0 by a random one; three failures in a row end a search with
an exception that leaves its lock held; a worker that dies keeps its trial for ever and its chief waiting, and a worker
whose chief dies waits for an hour; it takes every process whose name contains "chief" for the chief.
"""

import contextlib
import functools
import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import threadpoolctl
from sklearn.exceptions import ConvergenceWarning

from crackflow.core import atomic, checked_json, console
from crackflow.core.backend import load_tuner, load_tuner_service
from crackflow.core.config.search import TuneConfig, Tuner
from crackflow.core.errors import RetryableError, UserError
from crackflow.search import space

keras_tuner = load_tuner()
service = load_tuner_service()
Trial, Status = service.trial.Trial, service.trial.TrialStatus
oracles = keras_tuner.oracles

SCORE = "score"  # of a trial: what is maximised
FAILURES = 5  # this many in a row end a search
# Fraction of the spread of the scores that the Gaussian process takes for noise. Keras Tuner's default is 1e-4.
NOISE = 1e-2
# Weight of the uncertainty in the upper confidence bound. With Keras Tuner's 2.6 the 20 points that the process chose
# on METU were worse than the 7 that were drawn before: 98.8 against 98.9 % on average, 8 of them networks of fewer than
# 10,000 weights.
UCB_BETA = 1.0
MAX_FAILURES = 1 << 30  # failures in a row after which Keras Tuner would raise
# A worker sends a heartbeat every BEAT_SECONDS while its trial runs. One that was silent for LEASE_SECONDS counts as
# dead, and another worker gets its trial. A save on a slow disk may delay a heartbeat, but not by a minute.
BEAT_SECONDS, LEASE_SECONDS = 5.0, 60.0
# A worker may start before its chief, which reads the dataset first; later a chief answers at once.
CONNECT_SECONDS, ANSWER_SECONDS = 300.0, 30.0
SILENT_SECONDS = 5.0  # after this wait, a process says what it waits for


def _locked(method: Callable) -> Callable:
    @functools.wraps(method)
    def locked_method(self, *arguments, **settings):
        with self.lock:
            return method(self, *arguments, **settings)

    return locked_method


class PersistentOracle:
    """A mixin for oracles: the whole state is one file, written atomically after every change."""

    path = ""

    def restore_or_create(self, path: str, shared: bool) -> None:
        """Resumes from the file at `path`, or creates it.

        Args:
            path: The state file.
            shared: Whether workers of an earlier chief may still run; they keep their trials until they are evicted.

        Raises:
            UserError: The file is damaged.
        """
        self.path, self.lock, self.verbose = path, threading.RLock(), 0
        if not os.path.exists(path):
            self.save()
            return
        self.reload()
        for worker in [] if shared else list(self.ongoing_trials):
            self.release_trial(worker)

    def save(self) -> None:
        """Writes the state file."""
        content = {"state": self.get_state(), "trials": [trial.get_state() for trial in self.trials.values()]}
        atomic.write_text(self.path, json.dumps(checked_json.add_checksum(content)) + "\n")

    def _save_trial(self, trial: Trial) -> None:
        """Does nothing: `save` writes all trials."""

    def reload(self) -> None:
        """Restores the state from the file.

        Trials that had begun and not ended, and that no worker has, are run again first; so are those whose failures
        ended the search, as their cause may have been removed.

        Raises:
            UserError: The file is damaged.
        """
        try:
            content = read_state(self.path)
            self.trials = {state["trial_id"]: Trial.from_state(state) for state in content["trials"]}
            self.set_state(content["state"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damage_error(self.path, error) from error
        if self.has_failed():
            del self.end_order[-FAILURES:]
        ongoing = {
            worker: trial for worker, trial in self.ongoing_trials.items() if trial.trial_id not in self.end_order
        }
        self.ongoing_trials, self._retry_queue = ongoing, []
        ongoing_ids = {trial.trial_id for trial in ongoing.values()}
        for name, trial in self.trials.items():
            if name not in self.end_order and name not in ongoing_ids:
                self._requeue(trial)

    def _random_values(self) -> dict | None:
        """The hand-made networks first, as far as they differ in what is searched; then random values."""
        for warm_start in space.WARM_START_CONFIGS:
            values = {hp.name: warm_start.get(hp.name, hp.default) for hp in self.hyperparameters.space}
            if not self._duplicate(values):
                return values
        return super()._random_values()

    @_locked
    def create_trial(self, tuner_id: str) -> Trial:
        """The next trial for the worker `tuner_id`; its status is STOPPED if there is none, IDLE if it must wait."""
        if self.has_failed() and tuner_id not in self.ongoing_trials:
            self.tuner_ids.discard(tuner_id)
            return Trial(self.get_space(), trial_id="", status=Status.STOPPED)
        return super().create_trial(tuner_id)

    @_locked
    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int = 0) -> Trial:
        has_ended = trial_id in self.end_order
        return self.trials[trial_id] if has_ended else super().update_trial(trial_id, metrics, step)

    @_locked
    def end_trial(self, trial: Trial) -> None:
        """Records the end of `trial`; one that ended before, because its worker was taken for dead, does not change."""
        if trial.trial_id in self.end_order:
            return
        if trial.trial_id in self._retry_queue:
            self._retry_queue.remove(trial.trial_id)
        super().end_trial(trial)
        self.save()  # a second time: the trial has left `ongoing_trials` only now

    @_locked
    def release_trial(self, tuner_id: str) -> str | None:
        """Requeues the trial of the worker `tuner_id`, which is gone; returns the trial's name, None if it had none."""
        self.tuner_ids.discard(tuner_id)
        trial = self.ongoing_trials.pop(tuner_id, None)
        if trial is None:
            return None
        self._requeue(trial)
        self.save()
        return trial.trial_id

    def _requeue(self, trial: Trial) -> None:
        trial.status = Status.RUNNING
        trial.metrics = type(trial.metrics)()
        self._retry_queue.append(trial.trial_id)

    @_locked
    def has_failed(self) -> bool:
        """Whether the last `FAILURES` trials that ended have all failed."""
        last = [self.trials[name].status for name in self.end_order[-FAILURES:]]
        return len(last) == FAILURES and set(last) == {Status.FAILED}

    @_locked
    def is_complete(self) -> bool:
        """Whether the search is over: all trials that it may have are done, or the last ones have failed."""
        none_left = len(self.trials) >= self.max_trials and not self._retry_queue
        return (none_left or self.has_failed()) and not self.ongoing_trials


class Hyperband(PersistentOracle, oracles.HyperbandOracle):
    """Hyperband (Li et al., 2018)."""


class Random(PersistentOracle, oracles.RandomSearchOracle):
    """Random search: every trial is drawn independently (Bergstra and Bengio, 2012)."""


class Bayesian(PersistentOracle, oracles.BayesianOptimizationOracle):
    """A Gaussian process of the scores, and the most promising point by it; never one that was tried."""

    def populate_space(self, trial_id: str) -> dict:
        # The matrices are small: with several threads, which wait for each other, it takes three times as long.
        with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
            # It warns when a length scale is at its bound: a hyperparameter that decides nothing, or everything.
            warnings.simplefilter("ignore", ConvergenceWarning)
            proposal = super().populate_space(trial_id)
        tried = proposal["values"] and self._duplicate(proposal["values"])
        return self._random_populate_space() if tried else proposal


class Grid(PersistentOracle, oracles.GridSearchOracle):
    """All combinations, beginning with the defaults; the last hyperparameter changes fastest."""

    def reload(self) -> None:
        super().reload()
        order = functools.cmp_to_key(lambda a, b: self._compare(a.hyperparameters.values, b.hyperparameters.values))
        for trial in sorted(self.trials.values(), key=order):
            self._ordered_ids.insert(trial.trial_id)
            self._populate_next.append(trial.trial_id)


def create_oracle(config: TuneConfig, path: str, shared: bool = False) -> PersistentOracle:
    """The oracle of a search, resumed from its file when there is one.

    Args:
        config: Of the search.
        path: The state file.
        shared: Whether several workers share the search, of which some may still run.

    Returns:
        An oracle over the space of `config`.

    Raises:
        UserError: The file is damaged.
    """
    choices = keras_tuner.HyperParameters()
    space.declare(choices, config)
    settings = {
        "objective": keras_tuner.Objective(SCORE, "max"),
        "hyperparameters": choices,
        "seed": (config.seed + 1) % 2**32 or 1,  # 0 would be replaced by a random one
        "max_consecutive_failed_trials": MAX_FAILURES,
    }
    if config.tuner is Tuner.HYPERBAND:
        oracle = Hyperband(max_epochs=config.max_epochs, hyperband_iterations=0, **settings)  # 0: until max_trials
        oracle.max_trials = config.max_trials
    elif config.tuner is Tuner.BAYESIAN:
        # Keras Tuner's default is three points per hyperparameter, which is more than most searches have trials.
        points = max(3, min(len(choices.space), config.max_trials // 3))
        oracle = Bayesian(
            max_trials=config.max_trials, num_initial_points=points, alpha=NOISE, beta=UCB_BETA, **settings
        )
    else:
        oracle = {Tuner.RANDOM: Random, Tuner.GRID: Grid}[config.tuner](max_trials=config.max_trials, **settings)
    oracle.restore_or_create(path, shared)
    oracle.max_trials = config.max_trials
    return oracle


def read_state(path: str) -> dict:
    """The content of an oracle's file: its state and its trials.

    Raises:
        UserError: The file is damaged.
    """
    try:
        content = checked_json.read(path)
        if set(content) != {"state", "trials"}:
            raise ValueError(f"it holds {', '.join(sorted(content))}")
        return content
    except ValueError as error:
        raise _damage_error(path, error) from error


def _damage_error(path: str, error: Exception) -> UserError:
    return UserError(f"{path!r} is damaged ({error}); begin anew with --overwrite")


def is_over(path: str, max_trials: int) -> bool:
    """Whether the file of an oracle says that `max_trials` trials have ended."""
    try:
        content = read_state(path)
        return len(content["trials"]) == len(content["state"]["end_order"]) >= max_trials
    except (OSError, UserError, KeyError, TypeError):
        return False


class Service(service.chief.OracleServicer):
    """Answers the workers, one call at a time, notes when each last called; calls `on_trial_end` after each trial."""

    def __init__(self, oracle: PersistentOracle, on_trial_end: Callable[[], None]) -> None:
        super().__init__(oracle)
        self._on_trial_end, self._notified = on_trial_end, set()
        self._last_seen = {name: time.monotonic() for name in oracle.ongoing_trials}  # of an earlier chief

    def CreateTrial(self, request, context):  # noqa: N802 - the name is the service's
        self._last_seen[request.tuner_id] = time.monotonic()
        answer = super().CreateTrial(request, context)
        if answer.trial.status == Status.to_proto(Status.STOPPED):
            self._notified.add(request.tuner_id)
        return answer

    def GetTrial(self, request, context):  # noqa: N802
        """Returns a trial, and counts the call as a heartbeat of the worker that runs it."""
        for worker, trial in list(self.oracle.ongoing_trials.items()):
            if trial.trial_id == request.trial_id:
                self._last_seen[worker] = time.monotonic()
        return super().GetTrial(request, context)

    def EndTrial(self, request, context):  # noqa: N802
        answer = super().EndTrial(request, context)
        self._on_trial_end()
        return answer

    def evict_dead_workers(self, now: float) -> list[tuple[str, str | None]]:
        """Evicts workers that were silent for over LEASE_SECONDS at `now`; returns (worker, its trial or None)."""
        silent = [name for name, last_seen in self._last_seen.items() if now - last_seen > LEASE_SECONDS]
        for name in silent:
            del self._last_seen[name]
        return [(name, self.oracle.release_trial(name)) for name in silent if name not in self._notified]

    def is_alone(self) -> bool:
        """Whether no worker has called yet."""
        return not self._last_seen and not self._notified

    def is_done(self) -> bool:
        """Whether the search is over, and every living worker was told so."""
        search_ended = bool(self._notified) or self.oracle.is_complete()
        return search_ended and not self.oracle.ongoing_trials and set(self._last_seen) <= self._notified


@contextlib.contextmanager
def serve(oracle: PersistentOracle, address: str, on_trial_end: Callable[[], None]) -> Iterator[Service]:
    """Serves `oracle` to workers at `address`, host:port, while the block runs.

    Args:
        oracle: Of the search.
        address: On which to listen.
        on_trial_end: Called after each trial.

    Yields:
        The service.

    Raises:
        UserError: The port is not free.
    """
    servicer = Service(oracle, on_trial_end)
    # The oracles expect one thread. With so_reuseport a second chief would share the port, and get half of the calls.
    server = grpc.server(futures.ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    service.protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise UserError(
            f"KERASTUNER_ORACLE_PORT: expected a free port of this host, received {address}; choose another"
        ) from error
    server.start()
    try:
        yield servicer
    finally:
        server.stop(grace=1).wait()


class RemoteOracle:
    """The chief's oracle, as a worker calls it; each call raises a RetryableError when the chief does not answer."""

    def __init__(self, address: str, name: str) -> None:
        host, _, port = address.rpartition(":")
        # Keras Tuner's client reads its address here.
        os.environ |= {"KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": port, "KERASTUNER_TUNER_ID": name}
        self._address, self._client = address, service.client.OracleClient(None)
        try:
            self._ask(self._client.get_space, SILENT_SECONDS)
        except RetryableError:
            console.info(
                f"waiting for the chief of the search at {address} (named by KERASTUNER_ORACLE_IP; unset it to search "
                "alone)"
            )
            self._ask(self._client.get_space, CONNECT_SECONDS)

    def create_trial(self, tuner_id: str) -> Trial:
        return self._ask(self._client.create_trial, ANSWER_SECONDS, tuner_id)

    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int = 0) -> Trial:
        return self._ask(self._client.update_trial, ANSWER_SECONDS, trial_id, metrics, step)

    def end_trial(self, trial: Trial) -> None:
        self._ask(self._client.end_trial, ANSWER_SECONDS, trial)

    def get_trial(self, trial_id: str) -> Trial:
        return self._ask(self._client.get_trial, ANSWER_SECONDS, trial_id)

    def _ask(self, call: Callable, seconds: float, *arguments):
        service.client.TIMEOUT = seconds  # of all calls of the client; its default is an hour
        try:
            return call(*arguments)
        except grpc.RpcError as error:
            raise RetryableError(
                f"the chief of the search at {self._address} does not answer ({error.code().name}); start it, then "
                "give the same command again"
            ) from error
