"""The shipped recipe on walls it has never seen, from three seeds; and what each of its levers is worth.

  python -m benchmarks.unseen --json=benchmarks/results/unseen.json      # two hours on 2 cores
  python -m benchmarks.unseen --ship=1 ...                               # the first seed becomes the shipped model
  python -m benchmarks.unseen --ablation=0 --seeds=1                     # one seed, nothing else
  python -m benchmarks.unseen --place=DIR ...                            # keeps data sets and runs there, takes them up
  python -m benchmarks.unseen --before=old/model.h5 ...                  # measures that model on the same images

Trains by launch/shipped.sh: METU's training split and made surfaces, nothing else. Measures at the model's own
threshold and temperature: METU's test split; DeepCrack and CFD cut to windows of 128 and of 160 px (masks layout), none
of which training, threshold or temperature have seen; fresh made surfaces. Images/s: in turn with crackflow_s, float32.
The ablation changes one thing at a time, with one seed and a sixteenth of the training images: one epoch in which
METU's count once, or, alone, seven. Each is written as it is measured.
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
from crackflow.pipeline import stream

SCRIPT, FLAGS = "launch/shipped.sh", "launch/flags/shipped.cfg"
UNSEEN = {"deepcrack_128": 128, "deepcrack_160": 160, "cfd_128": 128, "cfd_160": 160}
MADE, MADE_SEED = 2000, 77
BATCH, RESAMPLES = 128, 200
KEEP = ("accuracy", "balanced_accuracy", "recall", "specificity", "roc_auc", "roc_auc_ci95", "ece", "n", "confusion")
SHORT_IMAGES = 53_600  # one epoch of METU's, once, and made surfaces
# The network of shipped.cfg sees the borders of a window; crackflow_s, whose convolutions add no zeros, hardly does.
OURS = ("--flagfile=" + FLAGS,)
SMALL = ("--model=crackflow_s", "--image_px=128", "--early_stopping_epochs=0", "--mm_per_px=0.53")
PLAIN = ("--standardised=false", "--mask_weight=0")  # masks need the 8 x 8 cells that padding leaves
# What METU is joined with, once: the recipe's made surfaces, or others by crackflow.synth with these flags.
RECIPES = None
JOINED = {"short": RECIPES, "unlent": ("--surfaces=varied",), "imitated": ()}
# What was changed: name, training data, flags.
ABLATION = (
    ("as shipped, in short", "short", OURS),
    ("but no masks", "short", (*OURS, "--mask_weight=0")),
    ("but nothing standardised", "short", (*OURS, "--standardised=false")),
    ("but nothing standardised, no masks, no zeros at the border", "short", (*OURS, *PLAIN, "--padding=valid")),
    ("but METU alone, no masks", "metu_128", (*OURS, "--mask_weight=0")),
    ("`crackflow_s`, METU alone, flips", "metu_128", (*SMALL, "--augment=d4")),
    ("`crackflow_s`, METU alone, strong augmentation", "metu_128", (*SMALL, "--augment=strong")),
    ("`crackflow_s`, METU and varied surfaces", "short", (*SMALL, "--augment=d4")),
    ("as shipped, but nothing lent by METU", "unlent", OURS),
    ("as shipped, but imitations of METU in place of varied surfaces", "imitated", OURS),
)


def crackflow(verb: str, *flags: object) -> float:
    """Seconds that `python -m crackflow.verb` took."""
    return harness.watch([sys.executable, "-m", f"crackflow.{verb}", *map(str, flags)]).seconds


def measured_on(place: pathlib.Path) -> dict[str, pathlib.Path]:
    """Folders of the data sets, each of test images alone but METU's."""
    sets = {"metu": place / "metu", **{name: place / name for name in UNSEEN}, "made": place / "fresh"}
    for name, px in UNSEEN.items():
        images = harness.data_folder() / name.split("_")[0]
        options = ("--layout=masks", "--split=0,0,1", f"--patch_px={px}")
        crackflow("convert", f"--images={images}", f"--out={sets[name]}", "--overwrite", *options)
    faces = place / "faces"
    varied = ("--surfaces=varied", "--image_px=128", f"--count={MADE}", f"--seed={MADE_SEED}")
    crackflow("synth", f"--out={faces}", "--overwrite", *varied)
    crackflow("convert", f"--images={faces}", f"--out={sets['made']}", "--overwrite", "--split=0,0,1")
    return sets


def first(place: pathlib.Path, run: pathlib.Path) -> None:
    """The data sets and the run of seed 0, by the documented command, unless they lie there from before."""
    if (run / "model.h5").exists():
        trained, lies = (
            model_file.load(str(run)).card.fingerprint,
            dataset.load(str(place / "both")).facts["fingerprint"],
        )
        if trained != lies:
            sys.exit(f"{run} was trained on other data than {place / 'both'}: choose another --place")
    else:
        images = harness.data_folder() / "metu"
        subprocess.run(["bash", SCRIPT, f"--images={images}", f"--out={place}"], check=True)
        shutil.move(place / "run", run)


def joined(place: pathlib.Path, name: str) -> None:
    """`place`/`name`: METU and made surfaces, as JOINED says, unless it lies there."""
    if (place / name).exists():
        return
    made = place / "made"
    if JOINED[name] is not RECIPES:
        photos, made = place / f"{name}_photos", place / f"{name}_made"
        synth = ("--image_px=128", "--count=48000", "--seed=11", *JOINED[name])
        crackflow("synth", f"--out={photos}", "--overwrite", *synth)
        crackflow("convert", f"--images={photos}", f"--out={made}", "--overwrite", "--split=0.95,0.05,0")
    crackflow("convert", f"--join={place}/metu_128,{made}", f"--out={place / name}", "--overwrite")


def measure(run: pathlib.Path, sets: dict[str, pathlib.Path]) -> dict:
    """Figures of the model in `run` on each set, as crackflow.evaluate gives them, and its card's."""
    loaded, figures = model_file.load(str(run)), {}
    card = loaded.card
    for name, path in sets.items():
        data = dataset.load(str(path))
        batches = stream.eval_batches(data, "test", BATCH, card.image_px, card.channels)
        labels, logits = scoring.predict_logits(loaded.model, batches)
        probabilities = model_file.to_probabilities(logits, card.temperature)
        groups = stream.paths_and_groups(data, "test")[1]
        found = metrics.measure(labels, probabilities, groups, card.threshold, RESAMPLES, seed=0)
        held = photo_threshold.abstains(probabilities, card.review)
        figures[name] = {key: found[key] for key in KEEP} | {"review": float(held.mean())}
    facts = {"threshold": card.threshold, "temperature": card.temperature, "review": card.review}
    return {"parameters": loaded.model.count_params(), **facts, "datasets": figures}


def means(runs: list[dict]) -> dict:
    """Of each figure over the seeds, for each set."""
    keys = ("accuracy", "balanced_accuracy", "recall", "specificity", "roc_auc", "ece", "review")
    names = runs[0]["datasets"]
    return {name: {key: statistics.mean(run["datasets"][name][key] for run in runs) for key in keys} for name in names}


def ablated(place: pathlib.Path, sets: dict[str, pathlib.Path]) -> Iterator[dict]:
    """One short training for each of ABLATION."""
    for number, (name, data, flags) in enumerate(ABLATION):
        if data in JOINED:
            joined(place, data)
        count = json.loads((place / data / "dataset.json").read_text())["splits"]["train"]["count"]
        run = place / f"ablation_{number}"
        epochs = max(round(SHORT_IMAGES / count), 1)
        crackflow("train", *flags, f"--data={place / data}", f"--run_dir={run}", f"--epochs={epochs}")
        share = speeds(run, seconds=0.3)["ratio"]
        found = {"name": name, "flags": flags, "speed": share, **measure(run, sets)}
        print(json.dumps({name: {key: one["roc_auc"] for key, one in found["datasets"].items()}}), file=sys.stderr)
        yield found


def speeds(run: pathlib.Path, seconds: float) -> dict:
    """Images/s at inference of the model in `run` and of crackflow_s, in turn, in windows of `seconds`."""
    ours, small = model_file.load(str(run)).model, networks.NETWORKS[Network.CRACKFLOW_S].build(128)
    found = scoring.measure_throughput(
        {"shipped": ours, "crackflow_s": small}, seconds=seconds, windows=9, compiled=False
    )
    rates = {name: rate.median for name, rate in found.items()}
    return {**rates, "ratio": rates["shipped"] / rates["crackflow_s"]}


def main() -> None:
    options = harness.arguments(__doc__, seeds=3, ablation=1, ship=0, place="", before="")
    runtime.configure(seed=0, threads=0, deterministic=False)
    with tempfile.TemporaryDirectory(prefix="crackflow-") as folder:
        place, runs = pathlib.Path(options.place or folder), []
        for seed in range(options.seeds):
            run = place / f"run_{seed}"
            if seed == 0:
                first(place, run)
                sets = measured_on(place)
                if options.ship:
                    shutil.copyfile(run / "model.h5", model_file.SHIPPED)
            elif not (run / "model.h5").exists():
                crackflow("train", *OURS, f"--data={place}/both", f"--run_dir={run}", f"--seed={seed}")
            runs.append({"seed": seed, **measure(run, sets)})
            print(json.dumps({name: one["roc_auc"] for name, one in runs[-1]["datasets"].items()}), file=sys.stderr)
            harness.save(options.json, {"flags": FLAGS, "runs": runs, "means": means(runs)})
        before = measure(pathlib.Path(options.before), sets) if options.before else None
        results = {"flags": FLAGS, "runs": runs, "means": means(runs), "before": before}
        results |= {"images_per_sec": speeds(place / "run_0", seconds=1.0)}
        results |= {"ablation": [], "ablation_images": SHORT_IMAGES}
        harness.save(options.json, results)
        for one in ablated(place, sets) if options.ablation else ():
            results["ablation"].append(one)
            harness.save(options.json, results)


if __name__ == "__main__":
    main()
