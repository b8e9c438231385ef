"""Keras Tuner's oracles: no trial is lost or repeated, whenever they are killed and whichever worker calls."""

import collections
import dataclasses
import itertools
import json
import socket
import threading
import time

import pytest

from crackflow.core import atomic
from crackflow.core.config.search import CHOICES, TuneConfig, Tuner
from crackflow.core.errors import RetryableError, UserError
from crackflow.model import networks
from crackflow.search import oracle, space

NAMES = ("depth", "width", "kernel", "learning_rate")
CONFIG = TuneConfig(data="d", out="o", max_trials=12, max_epochs=9, hold=tuple(set(CHOICES) - set(NAMES)))


class Killed(BaseException):
    pass


def config(tuner, **changes):
    # A grid of a few combinations, so that its end is seen as well.
    hold = tuple(set(CHOICES) - {"depth", "kernel"}) if tuner is Tuner.GRID else CONFIG.hold
    # A Gaussian process takes half a second for each trial after the first third.
    trials = {"max_trials": 6} if tuner is Tuner.BAYESIAN else {}
    return dataclasses.replace(CONFIG, tuner=tuner, hold=hold, **trials | changes)


def score(values):
    """A deterministic score, which is best in the middle of the space."""
    return 1 - abs(values.get("depth", 3) - 3) / 9 - abs(values.get("width", 32) - 32) / 300 - values["kernel"] / 1000


def step(search_oracle, worker="alone", run=None):
    """Runs one trial from its creation to its end; returns its status."""
    trial = search_oracle.create_trial(worker)
    if trial.status == oracle.Status.RUNNING:
        if run is not None:
            run.append(trial.trial_id)
        search_oracle.update_trial(trial.trial_id, {oracle.SCORE: score(trial.hyperparameters.values)})
        trial.status = oracle.Status.COMPLETED
        search_oracle.end_trial(trial)
    return trial.status


def to_the_end(search_oracle, run=None):
    while step(search_oracle, run=run) != oracle.Status.STOPPED:
        pass
    return search_oracle


def values(search_oracle):
    """The hyperparameters of each trial, in order."""
    return [dict(search_oracle.trials[name].hyperparameters.values) for name in sorted(search_oracle.trials)]


@pytest.mark.parametrize("tuner", Tuner)
def test_every_trial_runs_once_and_there_are_as_many_as_asked_for(tuner, tmp_path):
    run = []
    search_oracle = to_the_end(oracle.create_oracle(config(tuner), str(tmp_path / "o.json")), run)
    expected = 6 if tuner in (Tuner.GRID, Tuner.BAYESIAN) else 12  # three depths, two kernels; as asked for
    assert len(run) == len(set(run)) == expected and search_oracle.end_order == run
    if tuner is not Tuner.HYPERBAND:  # it gives the best of its trials more epochs
        assert len({json.dumps(trial_values, sort_keys=True) for trial_values in values(search_oracle)}) == expected


@pytest.mark.parametrize("tuner", Tuner)
def test_the_first_trial_is_what_would_be_trained_without_a_search(tuner, tmp_path):
    search_oracle = oracle.create_oracle(config(tuner), str(tmp_path / "o"))
    first, second = (search_oracle.create_trial(name).hyperparameters.values for name in "ab")
    names = [name for name in first if not name.startswith("tuner/")]
    assert {name: first[name] for name in names} == {name: space.defaults()[name] for name in names}
    assert {name: second[name] for name in names} != {name: first[name] for name in names}


@pytest.mark.parametrize("tuner", [Tuner.HYPERBAND, Tuner.BAYESIAN, Tuner.RANDOM])
def test_a_search_of_all_layers_begins_with_the_hand_made_networks(tuner, tmp_path):
    all_layers = dataclasses.replace(config(tuner), hold=())
    search_oracle = oracle.create_oracle(all_layers, str(tmp_path / "o"))
    architectures = []
    for name in "ab":
        hyperparameters = space.declare(search_oracle.create_trial(name).hyperparameters, all_layers)
        architectures.append(space.architecture(hyperparameters))
    assert architectures == [networks.S, networks.XS]


@pytest.mark.slow
@pytest.mark.parametrize("tuner", Tuner)
def test_the_same_seed_draws_the_same_trials_and_zero_is_a_seed(tuner, tmp_path):
    first, second = (to_the_end(oracle.create_oracle(config(tuner, seed=0), str(tmp_path / name))) for name in "ab")
    assert values(first) == values(second)
    if tuner in (Tuner.RANDOM, Tuner.HYPERBAND):
        assert values(to_the_end(oracle.create_oracle(config(tuner, seed=1), str(tmp_path / "c")))) != values(first)


@pytest.mark.slow
@pytest.mark.parametrize("tuner", Tuner)
@pytest.mark.parametrize("before", [True, False])
def test_killed_at_any_write_no_trial_is_lost_and_none_that_ended_is_repeated(tuner, before, tmp_path, monkeypatch):
    """The process dies just before or just after its k-th write, for every k, and is started again each time."""
    write, countdown = atomic.write_text, [0]

    def dying(path, text):
        countdown[0] -= 1
        if before and countdown[0] == 0:
            raise Killed
        write(path, text)
        if not before and countdown[0] == 0:
            raise Killed

    monkeypatch.setattr(oracle.atomic, "write_text", dying)
    for k in (5, 11, 100) if tuner is Tuner.BAYESIAN else itertools.count(1):
        path = tmp_path / f"{k}.json"
        ended, begun, deaths = [], [], 0
        while True:
            countdown[0] = k
            try:
                search_oracle = oracle.create_oracle(config(tuner, max_trials=5), str(path))
                trial = search_oracle.create_trial("alone")
                while trial.status != oracle.Status.STOPPED:
                    begun.append(trial.trial_id)
                    search_oracle.update_trial(trial.trial_id, {oracle.SCORE: score(trial.hyperparameters.values)})
                    trial.status = oracle.Status.COMPLETED
                    search_oracle.end_trial(trial)
                    ended.append(trial.trial_id)
                    trial = search_oracle.create_trial("alone")
                break
            except Killed:
                deaths += 1
                assert deaths < 200, f"it never ends when killed at write {k}"
                if k < 4 and deaths > 20:  # killed before it could do anything: nothing to test
                    break
        if deaths == 0:
            assert k > 10
            break
        if k < 4:
            continue
        names = [f"{number:01d}" for number in range(5)]
        assert sorted(search_oracle.trials) == names and sorted(search_oracle.end_order) == names
        # Two of the writes come after a trial has ended; when killed there, it does not run the trial again.
        assert max(collections.Counter(ended).values()) == 1
        for name in names:
            assert search_oracle.trials[name].score == pytest.approx(
                score(search_oracle.trials[name].hyperparameters.values)
            )


@pytest.mark.parametrize("tuner", [Tuner.RANDOM, Tuner.GRID, Tuner.HYPERBAND])
def test_a_search_restarted_after_each_trial_draws_what_an_uninterrupted_one_does(tuner, tmp_path):
    whole = to_the_end(oracle.create_oracle(config(tuner), str(tmp_path / "whole")))
    status = None
    while status != oracle.Status.STOPPED:
        search_oracle = oracle.create_oracle(config(tuner), str(tmp_path / "pieces"))
        status = step(search_oracle)
    assert values(search_oracle) == values(whole)


def test_the_best_of_hyperband_get_more_epochs_and_go_on_from_those_they_had(tmp_path):
    search_oracle = to_the_end(oracle.create_oracle(config(Tuner.HYPERBAND, max_trials=30), str(tmp_path / "o")))
    trials = {name: trial_values.hyperparameters.values for name, trial_values in search_oracle.trials.items()}
    promoted = {name: trial_values for name, trial_values in trials.items() if "tuner/trial_id" in trial_values}
    assert promoted and {trial_values["tuner/epochs"] for trial_values in trials.values()} >= {1, 3, 9}
    for trial_values in promoted.values():
        before = trials[trial_values["tuner/trial_id"]]
        assert {name: before[name] for name in NAMES} == {name: trial_values[name] for name in NAMES}
        assert before["tuner/epochs"] == trial_values["tuner/initial_epoch"] < trial_values["tuner/epochs"]


@pytest.mark.parametrize("seed", [2**32 - 1, 20261129135300])
def test_a_date_is_a_seed_too(tmp_path, seed):
    search_oracle = to_the_end(
        oracle.create_oracle(config(Tuner.BAYESIAN, seed=seed, max_trials=4), str(tmp_path / "oracle.json"))
    )
    assert len(search_oracle.trials) == 4


@pytest.mark.slow
def test_a_gaussian_process_beats_chance_and_begins_before_the_trials_end(tmp_path):
    search_oracle = oracle.create_oracle(config(Tuner.BAYESIAN, max_trials=12), str(tmp_path / "o"))
    assert search_oracle.num_initial_points == 4
    to_the_end(search_oracle)
    scores = [search_oracle.trials[name].score for name in search_oracle.end_order]
    assert sum(scores[-4:]) > sum(scores[:4])


def test_more_trials_than_an_ended_search_had_make_it_go_on(tmp_path):
    path = str(tmp_path / "o")
    to_the_end(oracle.create_oracle(config(Tuner.RANDOM, max_trials=3), path))
    assert oracle.is_over(path, 3) and not oracle.is_over(path, 5)
    search_oracle = to_the_end(oracle.create_oracle(config(Tuner.RANDOM, max_trials=5), path))
    assert len(search_oracle.end_order) == 5 and oracle.is_over(path, 5)


def test_five_failures_in_a_row_end_a_search_and_fewer_do_not(tmp_path):
    search_oracle = oracle.create_oracle(config(Tuner.RANDOM), str(tmp_path / "o"))
    for failed in (True, True, True, True, False, True, True, True, True, True):
        trial = search_oracle.create_trial("alone")
        assert trial.status == oracle.Status.RUNNING
        if not failed:
            search_oracle.update_trial(trial.trial_id, {oracle.SCORE: 0.5})
        trial.status = oracle.Status.FAILED if failed else oracle.Status.COMPLETED
        search_oracle.end_trial(trial)
    assert search_oracle.create_trial("alone").status == oracle.Status.STOPPED
    assert search_oracle.has_failed() and search_oracle.is_complete()
    # After a restart, when the cause of the failures may be gone, it tries those five once more.
    resumed = oracle.create_oracle(config(Tuner.RANDOM), str(tmp_path / "o"))
    retried = []
    to_the_end(resumed, retried)
    assert sorted(retried[:5]) == sorted(search_oracle.end_order[-5:]) and len(resumed.end_order) == 12


def test_a_damaged_file_is_one_clear_error(tmp_path):
    path = tmp_path / "oracle.json"
    for text in ("{", "[]", '{"state": {}, "trials": []}', '{"trials": [{}], "state": {}}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"oracle.json' is damaged .*; begin anew with --overwrite"):
            oracle.create_oracle(config(Tuner.RANDOM), str(path))


# Over gRPC, on loopback.


@pytest.fixture
def chief(tmp_path):
    """(oracle, service, address, calls) of a chief that listens; `calls` has one entry per trial that ended."""
    search_oracle, calls = oracle.create_oracle(config(Tuner.RANDOM, max_trials=4), str(tmp_path / "o.json")), []
    address = f"127.0.0.1:{free_port()}"
    with oracle.serve(search_oracle, address, lambda: calls.append(len(search_oracle.end_order))) as service:
        yield search_oracle, service, address, calls


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_workers_share_a_search_and_each_trial_runs_once(chief):
    search_oracle, service, address, calls = chief
    run = collections.defaultdict(list)

    def work(name):
        remote = oracle.RemoteOracle(address, name)
        while step(remote, name, run[name]) != oracle.Status.STOPPED:
            time.sleep(0.01)

    # "mischief" has "chief" in its name.
    threads = [threading.Thread(target=work, args=(name,)) for name in ("mischief-0", "worker-1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(run["mischief-0"] + run["worker-1"]) == ["0", "1", "2", "3"]
    assert calls == [1, 2, 3, 4] and service.is_done()
    for trial in search_oracle.trials.values():
        assert trial.score == pytest.approx(score(trial.hyperparameters.values), abs=1e-6)


def test_a_worker_that_comes_back_under_its_name_gets_its_trial_again(chief):
    _, _, address, _ = chief
    first = oracle.RemoteOracle(address, "w").create_trial("w")
    again = oracle.RemoteOracle(address, "w").create_trial("w")
    assert first.trial_id == again.trial_id
    assert first.hyperparameters.values == again.hyperparameters.values


def test_the_trial_of_a_silent_worker_goes_to_another_and_its_late_answer_is_ignored(chief):
    search_oracle, service, address, _ = chief
    remote = oracle.RemoteOracle(address, "slow")
    lost = remote.create_trial("slow")
    now = time.monotonic()
    assert service.evict_dead_workers(now + oracle.LEASE_SECONDS - 10) == []
    remote.get_trial(lost.trial_id)  # a heartbeat
    assert service.evict_dead_workers(now + oracle.LEASE_SECONDS + 1e-3 - 1) == []
    assert service.evict_dead_workers(time.monotonic() + oracle.LEASE_SECONDS + 1) == [("slow", lost.trial_id)]
    assert not service.is_done()
    reassigned = remote.create_trial("quick")
    assert reassigned.trial_id == lost.trial_id
    for trial, value in ((reassigned, 0.5), (lost, 0.9)):
        remote.update_trial(trial.trial_id, {oracle.SCORE: value})
        trial.status = oracle.Status.COMPLETED
        remote.end_trial(trial)
    assert search_oracle.trials[lost.trial_id].score == 0.5 and search_oracle.end_order == [lost.trial_id]


def test_a_sign_of_life_postpones_the_end(chief):
    _, service, address, _ = chief
    remote = oracle.RemoteOracle(address, "w")
    trial = remote.create_trial("w")
    heard = service._last_seen["w"]
    time.sleep(0.05)
    remote.get_trial(trial.trial_id)
    assert service._last_seen["w"] > heard


def test_the_chief_waits_for_those_who_have_not_heard_that_it_is_over(chief):
    search_oracle, service, address, _ = chief
    first, second = (oracle.RemoteOracle(address, name) for name in ("a", "b"))
    waiting = second.create_trial("b")
    while step(first, "a") != oracle.Status.STOPPED:
        pass
    assert not service.is_done()
    second.update_trial(waiting.trial_id, {oracle.SCORE: 0.1})
    waiting.status = oracle.Status.COMPLETED
    second.end_trial(waiting)
    assert not service.is_done()
    assert step(second, "b") == oracle.Status.STOPPED
    assert service.is_done() and search_oracle.is_complete()


def test_workers_of_a_killed_chief_keep_their_trials(tmp_path):
    path = str(tmp_path / "o.json")
    settings = config(Tuner.RANDOM, max_trials=4)
    before = oracle.create_oracle(settings, path, shared=True)
    first, second = (before.create_trial(name).trial_id for name in ("a", "b"))
    after = oracle.create_oracle(settings, path, shared=True)
    service = oracle.Service(after, lambda: None)
    now = time.monotonic()
    assert service.evict_dead_workers(now) == [] and not service.is_done()
    assert after.create_trial("a").trial_id == first  # whether it was started again or not
    assert after.create_trial("c").trial_id not in (first, second)
    lost = dict(service.evict_dead_workers(now + oracle.LEASE_SECONDS + 1))
    assert lost == {"a": first, "b": second}  # neither worker has called the new chief itself
    alone = oracle.create_oracle(settings, path)
    assert {alone.create_trial(str(number)).trial_id for number in range(3)} >= {first, second}


def test_a_port_that_is_taken_is_refused(chief, tmp_path):
    _, _, address, _ = chief
    second_oracle = oracle.create_oracle(config(Tuner.RANDOM), str(tmp_path / "other.json"))
    with pytest.raises(UserError, match="KERASTUNER_ORACLE_PORT: expected a free port of this host, received 127"):
        with oracle.serve(second_oracle, address, lambda: None):
            pass


def test_a_chief_that_does_not_answer_is_a_reason_to_try_again(monkeypatch):
    monkeypatch.setattr(oracle, "CONNECT_SECONDS", 0.2)
    with pytest.raises(
        RetryableError, match=r"the chief of the search at 127.0.0.1:\d+ does not answer \(DEADLINE_EXCEEDED\)"
    ):
        oracle.RemoteOracle(f"127.0.0.1:{free_port()}", "w")
