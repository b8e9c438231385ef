"""The names of classes in annotations: which of them mean crack.

Synopsis::

    class_names.means_crack("transverse-crack"), class_names.means_crack("no crack")      # True, False
    class_names.choose(["Riss", "pothole"], positive_class="")                            # {"Riss"}
"""

import re
from collections.abc import Sequence

from crackflow.conversion import folder_names
from crackflow.core.errors import UserError

# Crack in German, French, Spanish, Italian, Portuguese and Dutch.
WORDS = {"riss", "risse", "fissure", "fissures", "grieta", "grietas", "crepa", "fessura", "fissura", "trinca", "scheur"}
CRACK, NOT = re.compile(r"crack(s|ed|ing)?"), {"no", "non", "not", "un", "without", "free", "ohne", "kein", "keine"}
NUMBERS = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}


def means_crack(name: str) -> bool:
    """Whether `name` says that there is a crack, alone or as one word of several."""
    words = [word.lower() for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name) if word]
    if folder_names.label(name) is not None:
        return folder_names.label(name) == 1
    return not NOT & set(words) and any(word in WORDS or CRACK.fullmatch(word) for word in words)


def choose(names: Sequence[str], positive_class: str) -> set[str]:
    """Returns those of `names` that mean crack.

    Args:
        names: All classes of the annotations.
        positive_class: The classes that the user named, separated by commas; empty to infer them.

    Raises:
        UserError: No class, or another one, is named, and the names do not say which means crack.
    """
    listed = ", ".join(map(repr, sorted(names))) or "none"
    if positive_class:
        positive = {positive_class} if positive_class in names else {part.strip() for part in positive_class.split(",")}
        if unknown := sorted(positive - set(names)):
            raise UserError(
                f"--positive_class: expected classes of the annotations ({listed}), received {', '.join(unknown)!r}"
            )
        return positive
    positive = {name for name in names if means_crack(name)}
    if not positive and names and all(name.lower() in NUMBERS for name in names):
        positive = {name for name in names if NUMBERS[name.lower()]}
        return positive
    others = [name for name in names if folder_names.label(name) != 0]
    if not positive and len(names) == 2 and len(others) == 1:
        return set(others)
    if not positive:
        raise UserError(f"expected --positive_class to name the class that means cracked, one or several of: {listed}")
    return positive
