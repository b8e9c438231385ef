"""The rule that determines the decision threshold."""

import math

from crackflow.core.config.fields import require

RULES = "f1, youden, recall:R, cost:C or bayes:C, such as recall:0.99 or cost:20"


def threshold_rule(text: str) -> tuple[str, float]:
    """Parses a rule: ('recall', 0.99) for 'recall:0.99'; f1 and youden have no number, which is 0.

    Raises:
        ConfigError: for an unknown rule.
    """
    name, colon, number = text.partition(":")
    try:
        value = float(number or "0")
    except ValueError:
        value = math.nan
    plain = name in ("f1", "youden") and not colon
    measured = (name == "recall" and 0 < value <= 1) or (name in ("cost", "bayes") and 0 < value < math.inf)
    require(plain or measured, "threshold", RULES, text)
    return name, value
