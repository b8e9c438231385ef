"""The shipped recipe on unseen walls, with three seeds, and an ablation of its parts.

  python -m benchmarks.unseen --json=benchmarks/results/unseen.json      # two hours on 2 cores
  python -m benchmarks.unseen --ship=1 ...                               # the first seed becomes the shipped model
  python -m benchmarks.unseen --ablation=0 --seeds=1                     # one seed, nothing else
  python -m benchmarks.unseen --place=DIR ...                            # stores and reuses datasets and runs there
  python -m benchmarks.unseen --before=old/model.h5 ...                  # evaluates that model on the same images

Trains with launch/shipped.sh, on METU's training split and synthetic surfaces only. Evaluates at the model's own
threshold and temperature: on METU's test split; on DeepCrack and CFD cut to windows of 128 and of 160 px (masks
layout), which neither training nor threshold nor temperature has used; and on new synthetic surfaces. Images/s are
measured in turn with crackflow_s, in float32. The ablation changes one thing at a time, with one seed and a sixteenth
of the training images: one epoch that has METU's images once, or seven epochs of METU alone. Each result is saved as
soon as it is measured.
"""

import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks import harness
from crackflow.core import runtime
from crackflow.core.config.network import Network
from crackflow.data import dataset
from crackflow.evaluation import metrics, scoring
from crackflow.inference import photo_threshold
from crackflow.model import model_file, networks
from crackflow.pipeline import tfrecord_loader
from crackflow.pipeline.batch_spec import BatchSpec

SCRIPT, FLAGS = "launch/shipped.sh", "launch/flags/shipped.cfg"
UNSEEN = {"deepcrack_128": 128, "deepcrack_160": 160, "cfd_128": 128, "cfd_160": 160}
NUM_SYNTHETIC, SYNTHETIC_SEED = 2000, 77
BATCH, RESAMPLES = 128, 200
KEEP = ("accuracy", "balanced_accuracy", "recall", "specificity", "roc_auc", "roc_auc_ci95", "ece", "n", "confusion")
SHORT_IMAGES = 53_600  # one epoch of METU's images, once each, and synthetic surfaces
# The network of shipped.cfg pads with zeros, so it sees window borders; crackflow_s does not pad and hardly does.
SHIPPED_FLAGS = ("--flagfile=" + FLAGS,)
BASELINE_FLAGS = ("--model=crackflow_s", "--image_px=128", "--early_stopping_epochs=0", "--mm_per_px=0.53")
PLAIN_FLAGS = ("--standardised=false", "--mask_weight=0")  # masks need the 8 x 8 feature map that padding leaves
# What METU is joined with, once: the recipe's synthetic surfaces, or others by crackflow.synth with these flags.
RECIPES = None
JOINED = {"short": RECIPES, "unlent": ("--surfaces=varied",), "imitated": ()}
# Ablations: name, training data, flags.
ABLATION = (
    ("as shipped, in short", "short", SHIPPED_FLAGS),
    ("but no masks", "short", (*SHIPPED_FLAGS, "--mask_weight=0")),
    ("but nothing standardised", "short", (*SHIPPED_FLAGS, "--standardised=false")),
    (
        "but nothing standardised, no masks, no zeros at the border",
        "short",
        (*SHIPPED_FLAGS, *PLAIN_FLAGS, "--padding=valid"),
    ),
    ("but METU alone, no masks", "metu_128", (*SHIPPED_FLAGS, "--mask_weight=0")),
    ("`crackflow_s`, METU alone, flips", "metu_128", (*BASELINE_FLAGS, "--augment=d4")),
    ("`crackflow_s`, METU alone, strong augmentation", "metu_128", (*BASELINE_FLAGS, "--augment=strong")),
    ("`crackflow_s`, METU and varied surfaces", "short", (*BASELINE_FLAGS, "--augment=d4")),
    ("as shipped, but nothing lent by METU", "unlent", SHIPPED_FLAGS),
    ("as shipped, but imitations of METU in place of varied surfaces", "imitated", SHIPPED_FLAGS),
)


def crackflow(verb: str, *flags: object) -> float:
    """Runs `python -m crackflow.verb` and returns its seconds."""
    return harness.watch([sys.executable, "-m", f"crackflow.{verb}", *map(str, flags)]).seconds


def prepare_datasets(work_dir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Converts the evaluation datasets and returns their folders. All but METU have a test split only."""
    sets = {"metu": work_dir / "metu", **{name: work_dir / name for name in UNSEEN}, "made": work_dir / "fresh"}
    for name, px in UNSEEN.items():
        images = harness.data_folder() / name.split("_")[0]
        options = ("--layout=masks", "--split=0,0,1", f"--patch_px={px}")
        crackflow("convert", f"--images={images}", f"--out={sets[name]}", "--overwrite", *options)
    photos = work_dir / "faces"
    varied = ("--surfaces=varied", "--image_px=128", f"--count={NUM_SYNTHETIC}", f"--seed={SYNTHETIC_SEED}")
    crackflow("synth", f"--out={photos}", "--overwrite", *varied)
    crackflow("convert", f"--images={photos}", f"--out={sets['made']}", "--overwrite", "--split=0,0,1")
    return sets


def train_first_seed(work_dir: pathlib.Path, run: pathlib.Path) -> None:
    """Creates the datasets and the run of seed 0 with the documented command, unless they exist."""
    if (run / "model.h5").exists():
        trained_on, on_disk = (
            model_file.load(str(run)).card.fingerprint,
            dataset.load(str(work_dir / "both")).metadata["fingerprint"],
        )
        if trained_on != on_disk:
            sys.exit(f"{run} was trained on other data than {work_dir / 'both'}: choose another --place")
    else:
        images = harness.data_folder() / "metu"
        subprocess.run(["bash", SCRIPT, f"--images={images}", f"--out={work_dir}"], check=True)
        shutil.move(work_dir / "run", run)


def join_datasets(work_dir: pathlib.Path, name: str) -> None:
    """Joins METU and synthetic surfaces to `work_dir`/`name`, as JOINED says, unless it exists."""
    if (work_dir / name).exists():
        return
    synthetic = work_dir / "made"
    if JOINED[name] is not RECIPES:
        photos, synthetic = work_dir / f"{name}_photos", work_dir / f"{name}_made"
        synth = ("--image_px=128", "--count=48000", "--seed=11", *JOINED[name])
        crackflow("synth", f"--out={photos}", "--overwrite", *synth)
        crackflow("convert", f"--images={photos}", f"--out={synthetic}", "--overwrite", "--split=0.95,0.05,0")
    crackflow("convert", f"--join={work_dir}/metu_128,{synthetic}", f"--out={work_dir / name}", "--overwrite")


def measure(run: pathlib.Path, sets: dict[str, pathlib.Path]) -> dict:
    """Metrics of the model in `run` on each dataset, as in crackflow.evaluate, and facts of its card."""
    loaded, figures = model_file.load(str(run)), {}
    card = loaded.card
    for name, path in sets.items():
        data = dataset.load(str(path))
        batches = tfrecord_loader.eval_batches(data, "test", BatchSpec(BATCH, card.image_px, card.channels))
        labels, logits = scoring.predict_logits(loaded.model, batches)
        probabilities = model_file.to_probabilities(logits, card.temperature)
        groups = tfrecord_loader.paths_and_groups(data, "test")[1]
        evaluation = metrics.measure(labels, probabilities, groups, card.threshold, RESAMPLES, seed=0)
        abstained = photo_threshold.abstains(probabilities, card.review)
        figures[name] = {key: evaluation[key] for key in KEEP} | {"review": float(abstained.mean())}
    facts = {"threshold": card.threshold, "temperature": card.temperature, "review": card.review}
    return {"parameters": loaded.model.count_params(), **facts, "datasets": figures}


def means(runs: list[dict]) -> dict:
    """Mean of each metric over the seeds, per dataset."""
    keys = ("accuracy", "balanced_accuracy", "recall", "specificity", "roc_auc", "ece", "review")
    names = runs[0]["datasets"]
    return {name: {key: statistics.mean(run["datasets"][name][key] for run in runs) for key in keys} for name in names}


def run_ablations(work_dir: pathlib.Path, sets: dict[str, pathlib.Path]) -> Iterator[dict]:
    """Runs one short training per entry of ABLATION."""
    for number, (name, data, flags) in enumerate(ABLATION):
        if data in JOINED:
            join_datasets(work_dir, data)
        count = json.loads((work_dir / data / "dataset.json").read_text())["splits"]["train"]["count"]
        run = work_dir / f"ablation_{number}"
        epochs = max(round(SHORT_IMAGES / count), 1)
        crackflow("train", *flags, f"--data={work_dir / data}", f"--run_dir={run}", f"--epochs={epochs}")
        relative_speed = speeds(run, seconds=0.3)["ratio"]
        result = {"name": name, "flags": flags, "speed": relative_speed, **measure(run, sets)}
        print(
            json.dumps({name: {key: scores["roc_auc"] for key, scores in result["datasets"].items()}}), file=sys.stderr
        )
        yield result


def speeds(run: pathlib.Path, seconds: float) -> dict:
    """Inference images/s of the model in `run` and of crackflow_s, in turn, in windows of `seconds`."""
    shipped, baseline = model_file.load(str(run)).model, networks.NETWORKS[Network.CRACKFLOW_S].build(128)
    throughputs = scoring.measure_throughput(
        {"shipped": shipped, "crackflow_s": baseline}, seconds=seconds, windows=9, compiled=False
    )
    rates = {name: rate.median for name, rate in throughputs.items()}
    return {**rates, "ratio": rates["shipped"] / rates["crackflow_s"]}


def main() -> None:
    options = harness.arguments(__doc__, seeds=3, ablation=1, ship=0, place="", before="")
    runtime.configure(seed=0, threads=0, deterministic=False)
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        work_dir, runs = pathlib.Path(options.place or folder), []
        for seed in range(options.seeds):
            run = work_dir / f"run_{seed}"
            if seed == 0:
                train_first_seed(work_dir, run)
                sets = prepare_datasets(work_dir)
                if options.ship:
                    shutil.copyfile(run / "model.h5", model_file.SHIPPED)
            elif not (run / "model.h5").exists():
                crackflow("train", *SHIPPED_FLAGS, f"--data={work_dir}/both", f"--run_dir={run}", f"--seed={seed}")
            runs.append({"seed": seed, **measure(run, sets)})
            print(
                json.dumps({name: scores["roc_auc"] for name, scores in runs[-1]["datasets"].items()}), file=sys.stderr
            )
            harness.save(options.json, {"flags": FLAGS, "runs": runs, "means": means(runs)})
        before = measure(pathlib.Path(options.before), sets) if options.before else None
        results = {"flags": FLAGS, "runs": runs, "means": means(runs), "before": before}
        results |= {"images_per_sec": speeds(work_dir / "run_0", seconds=1.0)}
        results |= {"ablation": [], "ablation_images": SHORT_IMAGES}
        harness.save(options.json, results)
        for ablation in run_ablations(work_dir, sets) if options.ablation else ():
            results["ablation"].append(ablation)
            harness.save(options.json, results)


if __name__ == "__main__":
    main()
