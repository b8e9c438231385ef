"""Keras Tuner's oracles, which choose the trials of a search: kept on the disk so that no trial is lost or repeated,
and shared by several workers over its own gRPC service.

Synopsis::

    kept = oracle.create_oracle(config, "search/oracle.json")            # goes on where the file says
    trial = kept.create_trial("worker-0")                       # .status, .hyperparameters
    kept.update_trial(trial.trial_id, {"score": 0.99}); kept.end_trial(trial)

    with oracle.serve(kept, "127.0.0.1:5050", ended=save):     # the chief
        ...
    remote = oracle.RemoteOracle("127.0.0.1:5050", "worker-0")        # a worker: the same calls, answered by the chief

What is mended here, of keras-tuner 1.4.8: it writes oracle and trials to several files, none of them atomically, and a
kill between two of them loses a trial or repeats it; its grid search forgets where it stood; its Bayesian search may
repeat a trial and replaces seed 0 by a random one; three failures in a row end a search with an exception that leaves
its lock held; a worker that dies keeps its trial for ever and its chief waiting, and a worker whose chief dies waits
for an hour; who is chief is guessed from a name that contains "chief".
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
FAILURES = 5  # in a row, after which a search gives up
# Share of the spread of the scores that is chance, for the Gaussian process. Keras Tuner's own is 1e-4.
NOISE = 1e-2
# How much it counts that a place is not known. With Keras Tuner's 2.6 the 20 places that the process chose on METU were
# worse than the 7 drawn before: 98.8 against 98.9 % on average, 8 of them networks of fewer than 10,000 weights.
UCB_BETA = 1.0
MAX_FAILURES = 1 << 30  # failures after which Keras Tuner would raise
# A worker speaks up every BEAT while its trial runs; one that was not heard of for LEASE is taken for dead, and its
# trial is given to another. A beat can be late by a save on a slow disk, not by a minute.
BEAT_SECONDS, LEASE_SECONDS = 5.0, 60.0
# A worker may start before its chief, which has the data set to look at first; later a chief answers at once.
CONNECT_SECONDS, ANSWER_SECONDS = 300.0, 30.0
SILENT_SECONDS = 5.0  # after which it is said for whom a process waits


def _locked(method: Callable) -> Callable:
    @functools.wraps(method)
    def held(self, *arguments, **settings):
        with self.lock:
            return method(self, *arguments, **settings)

    return held


class PersistentOracle:
    """An oracle whose whole state is one file, written at once after every change."""

    path = ""

    def begin(self, path: str, shared: bool) -> None:
        """Go on where `path` says, or begin there. `shared`: workers that have a trial may live, and keep it until they
        are given up. Raises: UserError when the file is damaged."""
        self.path, self.lock, self.verbose = path, threading.RLock(), 0
        if not os.path.exists(path):
            self.save()
            return
        self.reload()
        for worker in [] if shared else list(self.ongoing_trials):
            self.give_up(worker)

    def save(self) -> None:
        content = {"state": self.get_state(), "trials": [trial.get_state() for trial in self.trials.values()]}
        atomic.write_text(self.path, json.dumps(checked_json.add_checksum(content)) + "\n")

    def _save_trial(self, trial: Trial) -> None:
        """Nothing: `save` has all of them."""

    def reload(self) -> None:
        """Become what was saved. Trials that had begun and not ended and are nobody's are run again, first; so are
        those whose failures ended the search: what made them fail may have been mended."""
        try:
            content = read_state(self.path)
            self.trials = {it["trial_id"]: Trial.from_state(it) for it in content["trials"]}
            self.set_state(content["state"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(self.path, error) from error
        if self.has_failed():
            del self.end_order[-FAILURES:]
        under_way = {worker: one for worker, one in self.ongoing_trials.items() if one.trial_id not in self.end_order}
        self.ongoing_trials, self._retry_queue = under_way, []
        kept = {one.trial_id for one in under_way.values()}
        for name, trial in self.trials.items():
            if name not in self.end_order and name not in kept:
                self._again(trial)

    def _random_values(self) -> dict | None:
        """The hand-made networks first, as far as they differ in what is searched; then any."""
        for known in space.WARM_START_CONFIGS:
            chosen = {one.name: known.get(one.name, one.default) for one in self.hyperparameters.space}
            if not self._duplicate(chosen):
                return chosen
        return super()._random_values()

    @_locked
    def create_trial(self, tuner_id: str) -> Trial:
        """The next trial for the worker `tuner_id`; of status STOPPED when there is none, IDLE when it has to wait."""
        if self.has_failed() and tuner_id not in self.ongoing_trials:
            self.tuner_ids.discard(tuner_id)
            return Trial(self.get_space(), trial_id="", status=Status.STOPPED)
        return super().create_trial(tuner_id)

    @_locked
    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int = 0) -> Trial:
        ended = trial_id in self.end_order
        return self.trials[trial_id] if ended else super().update_trial(trial_id, metrics, step)

    @_locked
    def end_trial(self, trial: Trial) -> None:
        """A trial that has ended already, because its worker was taken for dead, stays what it was."""
        if trial.trial_id in self.end_order:
            return
        if trial.trial_id in self._retry_queue:
            self._retry_queue.remove(trial.trial_id)
        super().end_trial(trial)
        self.save()  # once more: only now it is no longer under way

    @_locked
    def give_up(self, tuner_id: str) -> str | None:
        """Take the trial of `tuner_id`, which is gone, back; its name, None when it had none."""
        self.tuner_ids.discard(tuner_id)
        trial = self.ongoing_trials.pop(tuner_id, None)
        if trial is None:
            return None
        self._again(trial)
        self.save()
        return trial.trial_id

    def _again(self, trial: Trial) -> None:
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
        """Whether all trials that there may be have ended."""
        all_there = len(self.trials) >= self.max_trials and not self._retry_queue
        return (all_there or self.has_failed()) and not self.ongoing_trials


class Hyperband(PersistentOracle, oracles.HyperbandOracle):
    """Li et al., 2018."""


class Random(PersistentOracle, oracles.RandomSearchOracle):
    """Every trial drawn anew (Bergstra and Bengio, 2012)."""


class Bayesian(PersistentOracle, oracles.BayesianOptimizationOracle):
    """A Gaussian process of the scores, and the most promising place in it; never one that was tried."""

    def populate_space(self, trial_id: str) -> dict:
        # Its matrices are small: threads that wait for each other take three times as long as one.
        with threadpoolctl.threadpool_limits(1), warnings.catch_warnings():
            # Where a length scale lies at its bound: a choice that decides nothing, or everything.
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = super().populate_space(trial_id)
        tried = found["values"] and self._duplicate(found["values"])
        return self._random_populate_space() if tried else found


class Grid(PersistentOracle, oracles.GridSearchOracle):
    """All combinations, the last choice fastest, from the defaults on."""

    def reload(self) -> None:
        super().reload()
        order = functools.cmp_to_key(
            lambda one, other: self._compare(one.hyperparameters.values, other.hyperparameters.values)
        )
        for trial in sorted(self.trials.values(), key=order):
            self._ordered_ids.insert(trial.trial_id)
            self._populate_next.append(trial.trial_id)


def create_oracle(config: TuneConfig, path: str, shared: bool = False) -> PersistentOracle:
    """The oracle that `config` asks for, over its space; it goes on where `path` says. `shared`: by workers, of whom
    some may live. Raises: UserError."""
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
        # Keras Tuner's own is three points a choice, which is more than most searches have trials.
        points = max(3, min(len(choices.space), config.max_trials // 3))
        oracle = Bayesian(
            max_trials=config.max_trials, num_initial_points=points, alpha=NOISE, beta=UCB_BETA, **settings
        )
    else:
        oracle = {Tuner.RANDOM: Random, Tuner.GRID: Grid}[config.tuner](max_trials=config.max_trials, **settings)
    oracle.begin(path, shared)
    oracle.max_trials = config.max_trials
    return oracle


def read_state(path: str) -> dict:
    """What the file of an oracle holds. Raises: UserError where that is not what was written."""
    try:
        content = checked_json.read(path)
        if set(content) != {"state", "trials"}:
            raise ValueError(f"it holds {', '.join(sorted(content))}")
        return content
    except ValueError as error:
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> UserError:
    return UserError(f"{path!r} is damaged ({error}); begin anew with --overwrite")


def is_over(path: str, max_trials: int) -> bool:
    """Whether the file of an oracle says that `max_trials` trials have ended."""
    try:
        content = read_state(path)
        return len(content["trials"]) == len(content["state"]["end_order"]) >= max_trials
    except (OSError, UserError, KeyError, TypeError):
        return False


class Service(service.chief.OracleServicer):
    """Answers the workers, one call at a time, and notes when each was heard of. `ended`: called after each trial."""

    def __init__(self, oracle: PersistentOracle, ended: Callable[[], None]) -> None:
        super().__init__(oracle)
        self._ended, self._told = ended, set()
        self._heard = {name: time.monotonic() for name in oracle.ongoing_trials}  # of an earlier chief

    def CreateTrial(self, request, context):  # noqa: N802 - the name is the service's
        self._heard[request.tuner_id] = time.monotonic()
        answer = super().CreateTrial(request, context)
        if answer.trial.status == Status.to_proto(Status.STOPPED):
            self._told.add(request.tuner_id)
        return answer

    def GetTrial(self, request, context):  # noqa: N802
        """A sign of life from whoever has this trial."""
        for worker, trial in list(self.oracle.ongoing_trials.items()):
            if trial.trial_id == request.trial_id:
                self._heard[worker] = time.monotonic()
        return super().GetTrial(request, context)

    def EndTrial(self, request, context):  # noqa: N802
        answer = super().EndTrial(request, context)
        self._ended()
        return answer

    def bury(self, now: float) -> list[tuple[str, str | None]]:
        """(worker, its trial or None) of those that were not heard of since `now` - LEASE_SECONDS."""
        silent = [name for name, heard in self._heard.items() if now - heard > LEASE_SECONDS]
        for name in silent:
            del self._heard[name]
        return [(name, self.oracle.give_up(name)) for name in silent if name not in self._told]

    def is_alone(self) -> bool:
        """Whether no worker was heard of yet."""
        return not self._heard and not self._told

    def is_done(self) -> bool:
        """Whether there is nothing more to do, and every worker that lives knows."""
        over = bool(self._told) or self.oracle.is_complete()
        return over and not self.oracle.ongoing_trials and set(self._heard) <= self._told


@contextlib.contextmanager
def serve(oracle: PersistentOracle, address: str, ended: Callable[[], None]) -> Iterator[Service]:
    """While inside, workers may connect to `address`. Raises: UserError when it can't be listened on."""
    made = Service(oracle, ended)
    # One thread, as the oracles expect; without so_reuseport a second chief would share the port, and half the calls.
    server = grpc.server(futures.ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    service.protos.get_service_grpc().add_OracleServicer_to_server(made, server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise UserError(
            f"KERASTUNER_ORACLE_PORT: expected a free port of this host, received {address}; choose another"
        ) from error
    server.start()
    try:
        yield made
    finally:
        server.stop(grace=1).wait()


class RemoteOracle:
    """The chief's oracle, from a worker. Raises: TryAgain when the chief does not answer."""

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
        service.client.TIMEOUT = seconds  # of all its calls; its own is an hour
        try:
            return call(*arguments)
        except grpc.RpcError as error:
            raise RetryableError(
                f"the chief of the search at {self._address} does not answer ({error.code().name}); start it, then "
                "give the same command again"
            ) from error
