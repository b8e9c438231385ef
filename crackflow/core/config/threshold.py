"""The rule that chooses the decision threshold, as a value.

Synopsis::

    rule = ThresholdRule.parse("recall:0.99")
    rule.kind, rule.value          # RuleKind.RECALL, 0.99
    str(rule)                      # 'recall:0.99'
"""

import dataclasses
import enum
import math

from crackflow.core.config.fields import require

RULES = "f1, youden, recall:R, cost:C or bayes:C, such as recall:0.99 or cost:20"


class RuleKind(str, enum.Enum):
    """What a rule looks for; `evaluation.thresholds.choose_threshold` describes each."""

    F1 = "f1"
    YOUDEN = "youden"
    RECALL = "recall"
    COST = "cost"
    BAYES = "bayes"


@dataclasses.dataclass(frozen=True)
class ThresholdRule:
    """A rule by which a threshold is chosen.

    Attributes:
        kind: what it looks for.
        value: the R of recall:R, 0..1, or the C of cost:C and bayes:C, above 0; None for f1 and youden.
    """

    kind: RuleKind
    value: float | None = None

    @classmethod
    def parse(cls, text: str) -> "ThresholdRule":
        """Parses a flag.

        Raises:
            ConfigError: for an unknown rule.
        """
        name, colon, number = text.partition(":")
        try:
            value = float(number or "nan")
        except ValueError:
            value = math.nan
        plain = name in (RuleKind.F1, RuleKind.YOUDEN) and not colon
        is_recall = name == RuleKind.RECALL and 0 < value <= 1
        is_cost = name in (RuleKind.COST, RuleKind.BAYES) and 0 < value < math.inf
        require(plain or is_recall or is_cost, "threshold", RULES, text)
        return cls(RuleKind(name), None if plain else value)

    def __str__(self) -> str:
        return self.kind.value if self.value is None else f"{self.kind.value}:{self.value:.12g}"


F1 = ThresholdRule(RuleKind.F1)
