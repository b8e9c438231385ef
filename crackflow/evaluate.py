"""Measure a trained model on one data set or several.

  python -m crackflow.evaluate --model=runs/metu --data=data/metu --out=runs/metu/test
  python -m crackflow.evaluate --model=runs/metu/model.h5 --data=data/metu,data/deepcrack --out=elsewhere
  python -m crackflow.evaluate --model=runs/metu --data=data/metu --threshold=recall:0.99 --out=careful

The threshold is the model's own, chosen on validation data, unless --threshold chooses another there. With several data
sets a table shows where the model falls behind its figures on the first. Leaves in the folder: metrics.json,
report.html, curves as PNG, errors/ and errors.csv with the worst mistakes, suspects/ and suspects.csv with labels that
may be wrong, photographs.csv with what crackflow.predict decides about each image, of at most --photographs of them.
Nothing is changed in the data. Images that the model was trained on, or chosen by, are counted in red, with the figures
without them beside.
"""

import dataclasses
import os

from crackflow.core import atomic, console, flags, runtime
from crackflow.core.config.trained import EvalSplit, EvaluateConfig
from crackflow.core.errors import UserError
from crackflow.data import dataset
from crackflow.evaluation import evaluator, overlap, photo_evaluation, results, scoring, thresholds
from crackflow.inference import photo_threshold
from crackflow.model import model_file
from crackflow.pipeline import stream
from crackflow.report import evaluation_files, run_page
from crackflow.training import run_folder

# Of several data sets each has a folder with its name.
OURS = (run_folder.REPORT, *evaluation_files.OWNED_FILES, *(f"*/{path}" for path in evaluation_files.OWNED_FILES))


def run(config: EvaluateConfig) -> dict:
    """Score every data set, write the results; returns the content of metrics.json. Raises: UserError."""
    runtime.configure(config.seed, config.threads, deterministic=False)
    if os.path.exists(os.path.join(config.out, run_folder.FLAGS)):  # its metrics.json would pass for one of ours
        raise UserError(
            f"--out: expected a folder of its own, received {config.out!r}, which holds a training run; choose "
            f"another, such as {os.path.join(config.out, 'test')!r}"
        )
    loaded = model_file.load(config.model)
    sets = _named([dataset.load(path) for path in config.data])
    if config.threshold:
        loaded = _decided_anew(loaded, next(iter(sets.values())), config)
    with atomic.folder(config.out, run_folder.METRICS, config.overwrite, OURS) as stage:
        found = {}
        for name, made in sets.items():
            splits = _splits(made, config.split)
            decided_on = ["val"] if config.threshold and not found else []
            settings = config.batch_size, config.resamples, config.seed, decided_on, config.photographs
            found[name] = evaluator.evaluate(loaded, made, splits, *settings)
        for name, evaluation in found.items():
            evaluation_files.save(evaluation, stage if len(found) == 1 else os.path.join(stage, name))
        content = _content(found)
        atomic.save_json(stage, run_folder.METRICS, content)
        run_page.write(_report(config, loaded, sets, list(found.values())), os.path.join(stage, run_folder.REPORT))
    for name, evaluation in found.items():
        console.info(_line(name, evaluation))
        if evaluation.photographs:
            console.info(_photographs(evaluation.photographs))
        if warning := overlap.in_words(evaluation.overlap):
            console.alert(f"{name} {evaluation.split}: {warning}")
    for warning in results.guesses(list(found.values())):
        console.alert(warning)
    if len(found) > 1:
        columns, rows = run_page.matrix(list(found.values()))
        shown = [[(name, False), *((cell.value, cell.fallen) for cell in cells)] for name, cells in rows]
        console.print_table(["", *columns], shown)
    console.info(f"report {os.path.join(config.out, run_folder.REPORT)}")
    return content


def _decided_anew(
    loaded: model_file.TrainedModel, made: dataset.Dataset, config: EvaluateConfig
) -> model_file.TrainedModel:
    """`loaded` with the threshold that the rule asks for on the validation images of `made`, and the band around it.
    Raises: UserError when there are none."""
    made.expect_images("val")
    card = loaded.card
    checks = stream.eval_batches(made, "val", config.batch_size, card.image_px, card.channels)
    labels, logits = scoring.predict_logits(loaded.model, checks)
    probabilities = model_file.to_probabilities(logits, card.temperature)
    if not thresholds.can_choose(labels, config.threshold):
        raise UserError(
            f"--threshold={config.threshold}: expected validation images of both classes in {made.folder!r}, found "
            "one; choose bayes:C, or another data set"
        )
    threshold = evaluator.choose_threshold(
        loaded.model, made, checks, labels, probabilities, card.temperature, config.threshold
    )
    # As many are left to a person as before.
    band = thresholds.abstention_band(
        probabilities, threshold, photo_threshold.abstains(probabilities, card.review).mean()
    )
    chosen = dataclasses.replace(card, threshold=threshold, threshold_rule=config.threshold, review=band)
    loaded = dataclasses.replace(loaded, card=chosen)
    if not config.photographs:
        return loaded
    return photo_evaluation.with_photo_threshold(loaded, made, labels, probabilities, config.seed)


def _named(sets: list[dataset.Dataset]) -> dict[str, dataset.Dataset]:
    """Each data set under the name of its folder. Raises: UserError when two have one name."""
    named = {}
    for made in sets:
        name = os.path.basename(os.path.abspath(made.folder))
        if name in named:
            raise UserError(f"--data: expected folders of different names, received two called {name!r}; rename one")
        named[name] = made
    return named


def _splits(made: dataset.Dataset, wanted: EvalSplit) -> list[str]:
    if wanted is not EvalSplit.ALL:
        return [wanted.value]
    return [name for name in made.facts["splits"] if made.count(name)]


def _content(found: dict[str, results.Evaluation]) -> dict:
    if len(found) == 1:
        return evaluator.content(next(iter(found.values())))
    return {"datasets": {name: evaluator.content(evaluation) for name, evaluation in found.items()}}


def _line(name: str, evaluation: results.Evaluation) -> str:
    measured = evaluation.metrics
    low, high = measured["accuracy_ci95"]
    confusion = measured["confusion"]
    return (
        f"{name} {evaluation.split}: accuracy {measured['accuracy']:.4f} [{low:.4f}, {high:.4f}] of {measured['n']:,}; "
        f"missed cracks {confusion['fn']:,}, false alarms {confusion['fp']:,}"
    )


def _photographs(measured: dict) -> str:
    counts = measured["confusion"]
    drawn = f" drawn from {measured['of']:,}" if measured["n"] < measured["of"] else ""
    rates = []
    for name in ("recall", "specificity"):
        if measured[name] is not None:
            low, high = measured[f"{name}_ci95"]
            rates.append(f"{name} {measured[name]:.4f} [{low:.4f}, {high:.4f}]")
    return (
        f"  as photographs, decided as crackflow.predict does: {', '.join(rates)} of {measured['n']:,}{drawn}; missed "
        f"cracks {counts['fn']:,}, false alarms {counts['fp']:,}"
    )


def _report(config, loaded, sets, evaluations) -> run_page.Report:
    card = loaded.card
    return run_page.Report(
        title="crackflow: " + ", ".join(sets),
        headline=f"{card.network}, measured on {sum(one.metrics['n'] for one in evaluations):,} images.",
        data=next(iter(sets.values())).facts,
        evaluations=evaluations,
        history=[],
        facts={
            "Model": f"{card.network}, {loaded.model.count_params():,} parameters",
            "Image size": f"{card.image_px} x {card.image_px} pixels, {card.channels} channels",
            "Threshold": f"{card.threshold:.3f}, chosen on validation data by {card.threshold_rule}",
            "Threshold of photographs": photo_evaluation.in_words(card),
            "Left to a person": "{:.3f} to {:.3f}".format(*card.review),
            "Temperature": f"{card.temperature:.3f}",
            "Trained on": f"data set {card.fingerprint[:12]}, crackflow {card.versions['crackflow']}",
        },
        flags=flags.as_flagfile(config),
        versions=runtime.versions(),
    )


if __name__ == "__main__":
    flags.main(EvaluateConfig, run, __doc__)
