import json
import socket

import pytest

from crackflow.core import distribution, rendezvous
from crackflow.core.backend import tf
from crackflow.core.config.hardware import AllReduce, Strategy
from crackflow.core.errors import RetryableError, UserError
from crackflow.core.runtime import AutoChoice
from crackflow.core.sharding import NO_SHARDING

NAMES = ("TF_CONFIG", *distribution.SLURM, "SLURM_STEP_TASKS_PER_NODE", "SLURMD_NODENAME")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def tell(monkeypatch, workers, index=0, **more):
    config = {"cluster": {"worker": workers} | more, "task": {"type": "worker", "index": index}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))


def slurm(monkeypatch, nodes, tasks, rank, **more):
    facts = {"SLURM_JOB_ID": 7, "SLURM_STEP_NODELIST": nodes, "SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_PROCID": rank}
    for name, value in ({"SLURM_STEP_NUM_TASKS": 4} | facts | more).items():
        monkeypatch.setenv(name, str(value))


def test_one_device_needs_no_strategy():
    cluster = distribution.join_cluster(Strategy.AUTO)
    assert cluster.strategy is None and cluster.is_chief and cluster.replicas == cluster.workers == 1
    assert cluster.choice == ("one", "one device: CPU")
    assert cluster.all_gather([3, 4]).tolist() == [[3, 4]]
    assert cluster.distribute(lambda shard: shard) == NO_SHARDING


def test_mirrored_needs_two_devices():
    with pytest.raises(UserError, match="--strategy=mirrored: expected two devices or more, found .*; use .*--cpu_dev"):
        distribution.join_cluster(Strategy.MIRRORED)


def test_multiworker_needs_the_names_of_workers():
    with pytest.raises(UserError, match="--strategy=multiworker: expected TF_CONFIG to name several workers"):
        distribution.join_cluster(Strategy.MULTIWORKER)


def test_tf_config_names_the_workers(monkeypatch):
    tell(monkeypatch, ["a:1", "b:2"], 1)
    cluster_spec = distribution.detect_cluster_spec()
    assert cluster_spec.source == "TF_CONFIG" and cluster_spec.config["task"] == {"type": "worker", "index": 1}


def test_a_chief_in_tf_config_is_worker_0(monkeypatch):
    tell(monkeypatch, ["b:2"], 0, chief=["a:1"])
    assert distribution.detect_cluster_spec().config == {
        "cluster": {"worker": ["a:1", "b:2"]},
        "task": {"type": "worker", "index": 1},
    }
    config = {"cluster": {"worker": ["b:2"], "chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert distribution.detect_cluster_spec().config["task"]["index"] == 0


def test_a_single_worker_is_no_cluster(monkeypatch):
    tell(monkeypatch, ["a:1"])
    assert distribution.detect_cluster_spec() is None
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert distribution.detect_cluster_spec() is None


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", 3]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": "a:1"}}',
        '{"cluster": {"worker": ["a", "b"]}}',
        '{"cluster": {"worker": ["a:1", "b:x\\n"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"index": Infinity}}',
        '{"cluster": {"worker": {"a:1": 1}, "chief": 7}}',
        "[" * 20_000,
    ],
)
def test_an_unusable_tf_config_is_the_users(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match='TF_CONFIG: expected {"cluster".*, received .*; unset it to train on this'):
        distribution.detect_cluster_spec()


def test_slurm_tasks_keep_the_order_of_the_node_list(monkeypatch):
    slurm(monkeypatch, "gpu[9-10]", "2(x2)", 2, SLURMD_NODENAME="gpu10")
    cluster_spec = distribution.detect_cluster_spec()
    assert cluster_spec.source == "SLURM"
    assert cluster_spec.config == {
        "cluster": {"worker": ["gpu9:12007", "gpu9:12008", "gpu10:12007", "gpu10:12008"]},
        "task": {"type": "worker", "index": 2},
    }


def test_one_slurm_task_is_no_cluster(monkeypatch):
    slurm(monkeypatch, "gpu1", "1", 0, SLURM_STEP_NUM_TASKS=1)
    assert distribution.detect_cluster_spec() is None


def test_slurm_tasks_that_are_elsewhere_are_refused(monkeypatch):
    slurm(monkeypatch, "gpu[1-2]", "2(x2)", 1, SLURMD_NODENAME="gpu2")
    with pytest.raises(UserError, match="SLURM: .*task 1 runs on gpu2, not on gpu1:12008; .*--distribution=block"):
        distribution.detect_cluster_spec()


def test_unusable_slurm_variables_are_the_users(monkeypatch):
    slurm(monkeypatch, "gpu[1-2]", "2", 3)
    with pytest.raises(UserError, match="SLURM: expected variables that name the workers of this step, received"):
        distribution.detect_cluster_spec()


def test_a_lost_worker_means_try_again():
    cluster = distribution.Cluster(None, AutoChoice("multiworker", ""), worker=1, workers=2)
    with pytest.raises(
        RetryableError, match=r"worker 1 of 2 lost another one \(UnavailableError: .+\); start all of them again"
    ):
        with cluster.translate_worker_loss():
            raise tf.errors.UnavailableError(None, None, "Socket closed")


def test_the_ports_of_a_slurm_job_follow_from_its_number_or_are_named(monkeypatch):
    slurm(monkeypatch, "gpu[1-2]", "1(x2)", 0)
    ports = set()
    for job in ("7", "8", "123456789"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        ports |= {
            int(address.split(":")[1]) for address in distribution.detect_cluster_spec().config["cluster"]["worker"]
        }
    assert len(ports) == 3 and all(1024 < port < 32_768 for port in ports)  # higher ports are ephemeral
    monkeypatch.setenv("CRACKFLOW_PORT", "9000")
    assert distribution.detect_cluster_spec().config["cluster"]["worker"] == ["gpu1:9000", "gpu2:9000"]
    monkeypatch.setenv("CRACKFLOW_PORT", "ssh")
    with pytest.raises(UserError, match="SLURM: expected variables that name the workers of this step, received"):
        distribution.detect_cluster_spec()


def test_a_port_that_is_in_use_is_one_line(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        tell(monkeypatch, [address, "b:2"])
        with pytest.raises(UserError, match=f"TF_CONFIG: expected {address} to be free to listen on, .*; name another"):
            distribution.join_cluster(Strategy.AUTO)


def test_a_port_that_comes_into_use_while_tensorflow_connects_is_one_line(monkeypatch):
    tell(monkeypatch, ["a:1", "b:2"])
    monkeypatch.setattr(rendezvous, "wait_for_workers", lambda *_: None)

    def refuse(**_):
        raise tf.errors.UnknownError(None, None, "Could not start gRPC server")

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", refuse)
    with pytest.raises(UserError, match="TF_CONFIG: expected a:1 to be free to listen on, .*; name another port"):
        distribution.join_cluster(Strategy.AUTO)


@pytest.mark.parametrize("all_reduce", AllReduce)
def test_gradients_are_reduced_as_requested(monkeypatch, all_reduce):
    received = []
    tell(monkeypatch, ["a:1", "b:2"])
    monkeypatch.setattr(rendezvous, "wait_for_workers", lambda *_: None)  # no other worker exists
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda **options: received.append(options))
    distribution.join_cluster(Strategy.AUTO, all_reduce=all_reduce)
    assert received[0]["communication_options"].implementation.name == all_reduce.name


def test_alone_nobody_can_be_lost():
    with pytest.raises(tf.errors.InternalError), distribution.join_cluster(Strategy.ONE).translate_worker_loss():
        raise tf.errors.InternalError(None, None, "a failure of its own")


def test_a_trial_of_a_search_trains_alone_whatever_was_started_with_it(monkeypatch):
    tell(monkeypatch, ["a:1", "b:2"], 1)
    cluster = distribution.join_cluster(Strategy.AUTO, hosts=False)
    assert cluster.strategy is None and cluster.is_chief and cluster.workers == 1
    slurm(monkeypatch, "node[1-2]", "2(x2)", 3)
    assert distribution.join_cluster(Strategy.AUTO, hosts=False).workers == 1
