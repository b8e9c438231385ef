"""The rule that chooses a threshold: written, parsed, written again."""

import pytest

from crackflow.core.config.threshold import RuleKind, ThresholdRule
from crackflow.core.errors import ConfigError


@pytest.mark.parametrize(
    "text, rule",
    [
        ("f1", ThresholdRule(RuleKind.F1)),
        ("youden", ThresholdRule(RuleKind.YOUDEN)),
        ("recall:0.99", ThresholdRule(RuleKind.RECALL, 0.99)),
        ("cost:20", ThresholdRule(RuleKind.COST, 20.0)),
        ("bayes:0.125", ThresholdRule(RuleKind.BAYES, 0.125)),
    ],
)
def test_a_rule_is_read_as_it_is_written(text, rule):
    assert ThresholdRule.parse(text) == rule and str(rule) == text


@pytest.mark.parametrize(
    "rule", ["f2", "recall", "recall:0", "recall:1.5", "cost:-1", "cost:inf", "bayes", "bayes:0", "f1:3", "cost:x", ""]
)
def test_what_is_no_rule_is_refused(rule):
    with pytest.raises(ConfigError, match="--threshold: expected f1, youden, recall:R, cost:C or bayes:C"):
        ThresholdRule.parse(rule)
