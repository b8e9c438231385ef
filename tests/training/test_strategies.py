"""The train step on two replicas against one device: logical CPU devices, in a process of their own, because TensorFlow
can't be given other devices once it runs."""

import json
import subprocess

import numpy as np
import pytest

from tests.helpers import support

pytestmark = pytest.mark.slow

SCRIPT = """
import json, sys
import numpy as np
from crackflow.core.backend import keras, tf
from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.core.config.network import Network
from crackflow.core.config.training import Optimization, TrainConfig
from crackflow.model import model_file, networks
from crackflow.training import trainer

replicas, policy, xla = int(sys.argv[1]), sys.argv[2], sys.argv[3]
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
devices = [f"CPU:{number}" for number in range(replicas)]
strategy = tf.distribute.MirroredStrategy(devices) if replicas > 1 else tf.distribute.get_strategy()
keras.mixed_precision.set_global_policy(policy)
keras.utils.set_random_seed(0)
config = TrainConfig(
    data="d", run_dir="r", batch_size=8, seed=3,
    augmentation=Augmentation(augment=Augment.STANDARD, mixup=0.3),
    optimization=Optimization(learning_rate=0.001, rate_batch=0, ema=0.9, clip_norm=1.0, accumulate=2),
)
with strategy.scope():
    # Without BatchNorm, whose statistics are each replica's own.
    model = trainer.compile_trainer(networks.NETWORKS[Network.SEED].build(32), config, 20, xla)
random = np.random.default_rng(0)
image = random.integers(0, 256, (32, 32, 32, 1), np.uint8)
label = random.integers(0, 2, 32).astype(np.int32)
stream = tf.data.Dataset.from_tensor_slices((image, label)).batch(8, drop_remainder=True).repeat()
traces, step = [], model.train_step
model.train_step = lambda data: traces.append(1) or step(data)
losses = []
for _ in range(6):
    losses += model.fit(stream, epochs=1, steps_per_epoch=2, verbose=0).history["loss"]
with model.swap_ema_weights():
    average = [float(np.abs(weight.numpy()).mean()) for weight in model.trainable_variables]
with strategy.scope():
    norms = trainer.compile_trainer(networks.NETWORKS[Network.CRACKFLOW_XS].build(32), config, 20, "off")
colours = np.repeat(image, 3, -1) * np.linspace(0.2, 1, 32)[:, None, None, None]  # replicas see other pictures
stream = tf.data.Dataset.from_tensor_slices((colours.astype(np.uint8), label)).batch(8, drop_remainder=True).repeat()
norms.fit(stream, epochs=1, steps_per_epoch=8, verbose=0)
checks = tf.data.Dataset.from_tensor_slices((colours.astype(np.uint8), label, np.ones(32, np.float32))).batch(8)
told = norms.evaluate(checks, verbose=0, return_dict=True)["loss"]
with norms.swap_ema_weights():
    logits = model_file.as_float32(norms).predict(colours.astype(np.uint8), verbose=0).astype(np.float64)
delivered = np.mean(np.logaddexp(0, np.where(label > 0, -logits, logits)))
smoothed = config.optimization.label_smoothing / 2
delivered += smoothed * np.mean(np.where(label > 0, logits, -logits))
print(json.dumps({"told": told, "delivered": delivered, "losses": losses, "average": average, "traces": len(traces)}))
"""


def run(replicas, policy="float32", xla="augmentation"):
    done = subprocess.run(
        [support.interpreter(), "-c", SCRIPT, str(replicas), policy, xla],
        capture_output=True,
        text=True,
        env=support.environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def one_device():
    return run(1)


@pytest.fixture(scope="module")
def two_replicas():
    return run(2, xla="on")


def test_two_replicas_of_half_a_batch_follow_one_device(one_device, two_replicas):
    two = two_replicas
    assert two["losses"][-1] < two["losses"][0]
    np.testing.assert_allclose(two["losses"], one_device["losses"], rtol=2e-3)
    np.testing.assert_allclose(two["average"], one_device["average"], rtol=2e-3)


def test_validation_is_of_the_network_that_is_delivered(two_replicas):
    """Its statistics are the mean of those that each replica has of its own images."""
    assert two_replicas["told"] == pytest.approx(two_replicas["delivered"], rel=1e-4)


def test_each_replica_is_traced_once(one_device):
    assert one_device["traces"] == 1


def test_two_replicas_scale_the_loss_of_half_precision(one_device):
    two = run(2, policy="mixed_float16")
    np.testing.assert_allclose(two["losses"], one_device["losses"], rtol=2e-2)
