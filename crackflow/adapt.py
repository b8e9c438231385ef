"""Adapt a model to a wall of your own, by 10 labelled windows of each class or more.

  python -m crackflow.adapt --images=windows --out=runs/wall                       # windows/cracked, windows/clean
  python -m crackflow.adapt --images=windows --model=runs/metu --out=runs/wall
  python -m crackflow.predict --model=runs/wall --photos=site --out=findings

It says what the labels are worth: how often the model as it is and the adapted one are right, on windows that the fit
has not seen. If the adapted one is not better beyond chance, the model keeps its weights, and its threshold moves
only if that is proved better. Leaves in the folder: model.h5, report.html, metrics.json, flags.cfg. A run that was
stopped or killed resumes when the same command is given again.
"""

import dataclasses
import json
import os
from collections.abc import Callable

import numpy as np
from scipy.special import expit, logit

from crackflow.core import atomic, callable_module, console, flags, json_schema, runtime
from crackflow.core.config.adapt import AdaptConfig
from crackflow.core.errors import UserError
from crackflow.data import overlays
from crackflow.evaluation import adaptation, labelled_windows, metrics, results, significance, thresholds
from crackflow.evaluation.adaptation import Outcome, Trial, Windows
from crackflow.evaluation.labelled_windows import LabelledWindows
from crackflow.inference import predictor
from crackflow.model import model_file
from crackflow.model.ood import OOD_QUANTILE, FeatureStatistics
from crackflow.report import run_page
from crackflow.training import fold_log, run_folder
from crackflow.training.fine_tuning import SCORED_AT_ONCE, FineTuner
from crackflow.version import __version__

OWNED_FILES = (model_file.FILE, run_folder.METRICS, run_folder.REPORT, run_folder.FLAGS, fold_log.FILES)
# Flags that say where things are, and how they are computed: the scores don't depend on them.
NOT_SCORED = ("images", "reviews", "photos", "model", "out", "workers", "threads", "overwrite")
MIN_WINDOWS = 10  # of each class, which is little: ten of ten right are a rate of 72 % or more
FORGOTTEN = 0.02  # of balanced accuracy on synthetic surfaces, from which on it is said in red
REVIEWED = 0.05  # share of the windows that is for human review, where the model has such a band
BOOTSTRAP_SAMPLES, MISTAKES_SHOWN = 1000, 24
BASIS = "cross-validation, by weights that had not seen the window"
MANY_WINDOWS = 1000  # of both classes: from here on crackflow.train does as well, and measures on a test split


def run(config: AdaptConfig) -> dict:
    """Run the whole path: windows, cross-validation, fit, threshold, model.h5, report.

    Returns:
        The content of metrics.json.

    Raises:
        UserError: the flags, the model or the windows are unusable.
    """
    runtime.configure(config.seed, config.threads, config.deterministic)
    labelled_windows.require_listable(config)
    loaded = model_file.load(config.model)
    with atomic.folder(
        config.out, run_folder.METRICS, config.overwrite, OWNED_FILES, unfinished=fold_log.FOLDER
    ) as stage:
        labelled = labelled_windows.gather(config, predictor.Model(loaded))
        if config.reviews:
            labelled = labelled_windows.without_scarce_class(labelled, MIN_WINDOWS)
        windows = labelled.windows
        has_both = _note_missing_class(windows)
        _require_enough(windows)
        remember = adaptation.to_remember(loaded.card.image_px, loaded.card.channels)
        tuner = FineTuner(loaded.model, config.fine_tuning, remember)
        log = fold_log.FoldLog(config.out, _identity(config, loaded, labelled.fingerprint))
        trial = adaptation.cross_validate(loaded.card, tuner, windows, config.folds, config.seed, _announced(log))
        outcome = adaptation.choose(trial)
        memory = adaptation.remembered(loaded.card.image_px, loaded.card.channels)
        before = tuner.scores(memory[0]) / loaded.card.temperature
        card = _adapt(config, loaded, tuner, windows, trial, outcome)
        after = tuner.scores(memory[0]) / card.temperature
        forgetting = {
            "images": len(memory[1]),
            "before": adaptation.balanced(memory[1], before, loaded.card.threshold),
            "after": adaptation.balanced(memory[1], after, card.threshold),
        }
        if not has_both and forgetting["before"] - forgetting["after"] > FORGOTTEN:
            # The windows can't say what became of the other class, but these pictures do.
            tuner.restore()
            card, outcome = loaded.card, Outcome.NOTHING
            forgetting |= {"after": forgetting["before"], "refused": forgetting["after"]}
        if outcome is Outcome.WEIGHTS:
            card = _with_photo_threshold(card, float(after.std() / before.std()))
        clean, cracked = windows.counts()
        more = {"clean": clean, "cracked": cracked, "groups": len(np.unique(windows.groups)), "forgetting": forgetting}
        content = adaptation.content(trial, outcome, more)
        _save(stage, loaded, dataclasses.replace(card, parent=_parent(loaded, content)), labelled, outcome)
        content = json_schema.with_version(run_folder.METRICS, content)
        atomic.save_json(stage, run_folder.METRICS, content)
        run_folder.save_flags(stage, config)
        warnings = _warnings(content, outcome)
        report = _build_report(config, card, loaded.sha256, windows, trial, outcome, content, warnings)
        run_page.write(report, os.path.join(stage, run_folder.REPORT))
    for line in _summary(content, trial, outcome):
        console.info(line)
    for warning in warnings:
        console.alert(warning)
    console.info(
        f"model {os.path.join(config.out, model_file.FILE)}, report {os.path.join(config.out, run_folder.REPORT)}"
    )
    return content


def _note_missing_class(windows: Windows) -> bool:
    """Whether both classes are there; says what stands in where one is missing."""
    clean, cracked = windows.counts()
    if not cracked:
        console.info(
            f"no cracked windows: {adaptation.STAND_INS} with cracks drawn onto the clean ones stand in; which real "
            "cracks of this place are found afterwards is not measured"
        )
    elif not clean:
        console.info(
            f"no clean windows: {adaptation.STAND_INS} synthetic ones stand in, and say nothing about this place"
        )
    return bool(clean and cracked)


def _require_enough(windows: Windows) -> None:
    """Raises: UserError where a class has too few windows, or only copies of one."""
    for label, name in enumerate(("clean", "cracked")):
        count = windows.counts()[label]
        if not count and len(windows.labels) >= MIN_WINDOWS:
            continue  # of one class alone
        if count < MIN_WINDOWS:
            raise UserError(
                f"--images: expected {MIN_WINDOWS} {name} windows or more, received {count}; label more, or leave "
                "these out: one class alone works too"
            )
        if len(np.unique(windows.groups[windows.labels == label])) < 2:
            raise UserError(
                f"--images: expected {name} windows of different pictures, received {count} that are copies of one, or "
                "of one photograph; label others"
            )
    if len(windows.labels) >= MANY_WINDOWS:
        console.info(
            f"note: from {MANY_WINDOWS:,} windows on, crackflow.train --weights={model_file.SHIPPED_NAME} has a test "
            "split and takes longer"
        )


def _identity(config: AdaptConfig, loaded: model_file.TrainedModel, fingerprint: str) -> str:
    """What the scores of a fold depend on."""
    same = flags.as_dict(config, without=NOT_SCORED)
    return json.dumps([__version__, loaded.sha256, fingerprint, same], sort_keys=True)


def _announced(log: fold_log.FoldLog) -> Callable[[int, Callable[[], np.ndarray]], np.ndarray]:
    """`log.recall`, which says how far it is."""

    def recall(number: int, compute: Callable[[], np.ndarray]) -> np.ndarray:
        before = log.recalled
        logits = log.recall(number, compute)
        console.info(f"fold {number + 1}: {'computed before' if log.recalled > before else 'done'}")
        return logits

    return recall


def _adapt(
    config: AdaptConfig,
    loaded: model_file.TrainedModel,
    tuner: FineTuner,
    windows: Windows,
    trial: Trial,
    outcome: Outcome,
) -> model_file.ModelMetadata:
    """Gives the network the weights to deliver; returns its metadata, with temperature and threshold for them."""
    tuner.restore()
    if outcome is Outcome.NOTHING:
        return loaded.card
    if outcome is Outcome.THRESHOLD:
        logits = trial.before_margins + logit(loaded.card.threshold)
        threshold = adaptation.moved_threshold(loaded.card, trial.labels, logits)
        return dataclasses.replace(loaded.card, threshold=threshold, review=_band(loaded.card, logits, threshold))
    tuner.fit(*adaptation.fitted(windows.images, windows.labels), config.seed)
    temperature, bias, threshold = adaptation.calibrate(loaded.card, trial.labels, trial.after_logits)
    tuner.shift(temperature * bias)
    logits = trial.after_margins + logit(threshold)  # of windows that neither weights nor calibration have seen
    verdict = significance.compare(trial.labels, expit(logits), threshold, trial.groups)
    return dataclasses.replace(
        loaded.card,
        temperature=temperature,
        threshold=threshold,
        review=_band(loaded.card, logits, threshold),
        validation=verdict._asdict(),
        calibrated_share=0.5,  # both classes count alike, however many windows each has
    )


def _with_photo_threshold(card: model_file.ModelMetadata, ratio: float) -> model_file.ModelMetadata:
    """`card` with what photographs of many windows are lowered by in logits `ratio` times as wide as the parent's.

    On mosaics of brickwork, 100 windows each, the parent's own values left 6 of 6 clean ones alone and found 3 of 6
    cracks; these, 6 and 6 (a ratio of 0.79). The highest clean window of the cross-validation as limit: 1 and 6.
    """
    ratio = min(ratio, 1.0)
    pairs = {
        name: tuple(ratio * bound for bound in getattr(card, name)) for name in ("photo_shift_ci95", "photo_level_ci95")
    }
    return dataclasses.replace(
        card,
        photo_shift=ratio * card.photo_shift,
        photo_level=ratio * card.photo_level,
        photo_growth=ratio * card.photo_growth,
        photo_most=ratio * card.photo_most,
        photo_images=0,  # no photograph was measured with these weights
        **pairs,
    )


def _band(card: model_file.ModelMetadata, logits: np.ndarray, threshold: float) -> tuple[float, float]:
    """The band for human review around `threshold`, where the model has one; `logits`: calibrated, of the windows."""
    share = REVIEWED if card.review[0] < card.review[1] else 0.0
    return thresholds.abstention_band(expit(logits), threshold, share)


def _parent(loaded: model_file.TrainedModel, content: dict) -> dict:
    """Where the model comes from, for its metadata."""
    return {
        "sha256": loaded.sha256,
        "network": loaded.card.network,
        "trained_on": loaded.card.fingerprint,
        "adaptation": content,
    }


def _save(
    stage: str,
    loaded: model_file.TrainedModel,
    card: model_file.ModelMetadata,
    labelled: LabelledWindows,
    outcome: Outcome,
) -> None:
    """Write model.h5: the network as it is now; where it has learnt the windows, its detector knows them as well."""
    detector, seen = loaded.familiarity, loaded.training_images
    if outcome is not Outcome.NOTHING:
        card = dataclasses.replace(card, fingerprint=labelled.fingerprint)
        seen = labelled.seen.and_earlier(seen) if labelled.seen else seen
    if outcome is Outcome.WEIGHTS and detector is not None:
        statistics, images = FeatureStatistics(loaded.model), labelled.windows.images
        parts = [statistics(images[at : at + SCORED_AT_ONCE]) for at in range(0, len(images), SCORED_AT_ONCE)]
        farthest = float(np.quantile(detector.distances(np.concatenate(parts)), OOD_QUANTILE))
        detector = dataclasses.replace(detector, limit=max(detector.limit, farthest))
    path = os.path.join(stage, model_file.FILE)
    model_file.save(path, loaded.model, card, detector, loaded.locator, seen)


def _warnings(content: dict, outcome: Outcome) -> list[str]:
    """What nobody may overlook."""
    forgetting, warnings = content["forgetting"], []
    if "refused" in forgetting:
        return [
            f"With the adapted weights the model would be right on {forgetting['refused']:.1%} of "
            f"{forgetting['images']} synthetic surfaces, before {forgetting['before']:.1%}. Windows of one class can't "
            "say what became of the other, so the model keeps its own weights. Label some of the other class as well."
        ]
    if outcome is not Outcome.WEIGHTS:
        warnings.append(
            "The adapted weights are not better than the model as it is beyond chance, so the model keeps its own"
            + ("; its threshold moves." if outcome is Outcome.THRESHOLD else ". Label more windows, or others.")
        )
    lost = forgetting["before"] - forgetting["after"]
    if lost > FORGOTTEN:
        warnings.append(
            f"On {forgetting['images']} synthetic surfaces the model is now right {forgetting['after']:.1%} of the "
            f"time, before {forgetting['before']:.1%}: it is a model for this place."
        )
    return warnings


def _summary(content: dict, trial: Trial, outcome: Outcome) -> list[str]:
    """What the run says at its end."""
    counts = f"{content['cracked']} cracked and {content['clean']} clean windows"
    lines = [
        f"on this place, by {counts}: {trial.before.in_words()} right before, {trial.after.in_words()} after "
        f"(balanced accuracy, 95 % interval; p = {trial.p_after:.2g})"
    ]
    if outcome is Outcome.THRESHOLD:
        lines.append(f"with its threshold moved: {trial.moved.in_words()}")
    state = "moved" if outcome is Outcome.THRESHOLD else "after"
    for label, words in enumerate(("clean windows left alone", "cracked windows found")):
        if (trial.labels == label).any():
            rates = [adaptation.rate(trial, label, name).in_words() for name in ("before", state)]
            lines.append(f"{words}: {rates[0]} before, {rates[1]} after")
    forgetting = content["forgetting"]
    lines.append(f"on synthetic surfaces: {forgetting['before']:.1%} before, {forgetting['after']:.1%} after")
    return lines


def _build_report(
    config: AdaptConfig,
    card: model_file.ModelMetadata,
    parent: str,
    windows: Windows,
    trial: Trial,
    outcome: Outcome,
    content: dict,
    warnings: list[str],
) -> run_page.Report:
    """The page: the estimate, curves and mistakes of the cross-validation of what is delivered."""
    margins = {
        Outcome.WEIGHTS: trial.after_margins,
        Outcome.THRESHOLD: trial.moved_margins,
        Outcome.NOTHING: trial.before_margins,
    }
    # As nothing that has seen the window decides; the threshold that is delivered has seen all of them.
    probabilities = expit(margins[outcome] + logit(card.threshold))
    measured = metrics.measure(
        windows.labels, probabilities, windows.groups, card.threshold, BOOTSTRAP_SAMPLES, config.seed
    )
    worst = metrics.worst_mistakes(windows.labels, probabilities, card.threshold, MISTAKES_SHOWN)
    mistakes = [
        results.Mistake(
            windows.paths[row],
            card.classes[windows.labels[row]],
            float(probabilities[row]),
            overlays.as_png(windows.images[row]),
        )
        for row in worst
    ]
    evaluation = results.Evaluation(
        name=os.path.basename(os.path.abspath(config.images or config.photos)),
        split="cross-validation",
        metrics=measured,
        labels=windows.labels,
        probabilities=probabilities,
        mistakes=mistakes,
        classes=card.classes,
        basis=BASIS,
        verdict=significance.compare(windows.labels, probabilities, card.threshold, windows.groups),
    )
    return run_page.Report(
        title=f"crackflow: {evaluation.name}",
        headline=" ".join(f"{line[0].upper()}{line[1:]}." for line in _summary(content, trial, outcome)),
        warnings=warnings,
        data={},
        evaluations=[evaluation],
        history=[],
        facts={
            "Changed": outcome.value,
            "Parent": parent,
            "Threshold": f"{card.threshold:.3f}",
            "Temperature": f"{card.temperature:.3f}",
            "For human review": "{:.3f} to {:.3f}".format(*card.review),
        },
        flags=flags.as_flagfile(config),
        versions=runtime.versions(),
    )


callable_module.install(__name__, AdaptConfig, run)
if __name__ == "__main__":
    flags.main(AdaptConfig, run, __doc__)
