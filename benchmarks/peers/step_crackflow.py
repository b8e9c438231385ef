"""crackflow's train step, repeatedly on one batch, without augmentation.

Synopsis::

    python benchmarks/peers/step_crackflow.py --network crackflow_s --image_px 128 --channels 3 --precision float32
"""

import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from benchmarks.peers import protocol
from crackflow.core import runtime
from crackflow.core.backend import keras, tf
from crackflow.core.config.augmentation import Augment, Augmentation
from crackflow.core.config.hardware import Xla
from crackflow.core.config.network import Network
from crackflow.core.config.training import Optimization, TrainConfig
from crackflow.model import networks
from crackflow.training import trainer


def main() -> None:
    options = protocol.step_options()
    runtime.configure(seed=0, threads=0, deterministic=False)
    keras.mixed_precision.set_global_policy(options.precision)
    config = TrainConfig(
        data="-",
        run_dir="-",
        batch_size=options.batch,
        augmentation=Augmentation(augment=Augment.NONE),
        optimization=Optimization(label_smoothing=0.0),
        steps_per_execution=1,
    )
    network = networks.NETWORKS[Network(options.network)].build(options.image_px)
    parameters = network.count_params()
    model = trainer.compile_trainer(network, config, 10_000, runtime.choose_xla(Xla.AUTO).value)
    function = model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors(protocol.synthetic_batch(options)).repeat())
    gpus = runtime.machine()["gpus"]
    version = runtime.versions()["tensorflow"]
    protocol.serve_steps(lambda: float(function(batches)["loss"]), parameters, version, (gpus or ["CPU"])[0], options)


if __name__ == "__main__":
    main()
