"""The content of findings.json, but for the entries of photographs and the reviews.

Synopsis::

    content = findings_content.build(config, model, photos)         # photos: entries as crackflow.predict makes them
    content["settings"], content["threshold"], content["prior"]
"""

from crackflow.core import flags, json_schema, runtime
from crackflow.core.config.trained import PredictConfig
from crackflow.evaluation import photo_evaluation, significance
from crackflow.inference import predictor, prior_shift, replay, work_list
from crackflow.version import __version__


def build(config: PredictConfig, model: predictor.Model, photos: list[dict]) -> dict:
    """Returns the content of findings.json for `photos`.

    Adds `probability_at_prior` and `rank` to each of them, and the first to their findings.

    Args:
        config: the flags.
        model: by which the photographs were predicted.
        photos: the entry of each photograph, one or more.
    """
    content = json_schema.with_version(json_schema.FINDINGS, _describe_run(model))
    content |= {
        "mm_per_px": config.mm_per_px or None,
        "settings": flags.as_json(config, replay.NOT_SETTINGS),
        "versions": runtime.versions(),
        "machine": runtime.machine(),
    }
    return content | _describe_work(photos, model, config.expected_cracked) | {"photos": photos}


def _describe_run(model: predictor.Model) -> dict:
    """What findings.json says of the model and the version of crackflow."""
    card = model.card
    return {
        "crackflow": __version__,
        "model": {
            "sha256": model.bundle.sha256,
            "network": card.network,
            "classes": list(card.classes),
            "trained_on": card.fingerprint,
        },
        "threshold": card.threshold,
        "temperature": card.temperature,
        "review": list(card.review),
        "photo_threshold": photo_evaluation.facts(card),
        "warnings": significance.doubts(card.validation),
    }


def _describe_work(photos: list[dict], model: predictor.Model, expected: float) -> dict:
    """What findings.json says of the share of cracked photographs, and of those to look at first.

    Probabilities and decisions stay: the threshold was chosen for them as they are.
    """
    probabilities = [photo["probability"] for photo in photos]
    prior = work_list.choose_prior(probabilities, prior_shift.trained_share(model.card), expected)
    corrected = prior.correct(probabilities)
    visit = work_list.rank(corrected)
    for photo, probability, rank in zip(photos, corrected, visit.ranks, strict=True):
        photo |= {"probability_at_prior": _round_digits(probability), "rank": int(rank)}
        for finding in photo["findings"]:
            finding["probability_at_prior"] = _round_digits(prior.correct([finding["probability"]])[0])
    return {"prior": prior.as_dict(), "summary": work_list.sentence(visit, prior), "work_list": visit.as_dict()}


def _round_digits(probability: float) -> float:
    """To six significant digits: at a low share sound photographs have probabilities of a millionth."""
    return float(f"{probability:.6g}")
