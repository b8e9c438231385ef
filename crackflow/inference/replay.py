"""An earlier findings.json, and whether its photographs, its model and its version give the same findings again.

Synopsis::

    earlier = replay.read_findings("findings/findings.json")
    config = earlier.restore_settings(config)                  # with the flags of that run
    earlier.require_model(model.bundle.sha256)
    files = earlier.match_photos(photo_files.list_photos(config.photos)[0])
    ...                                                        # predict them
    earlier.verify(content)                                    # "replayed 12 photographs: all findings equal"

Compared is the text of every value: all digits that findings.json has, and the order of its keys. There is no
tolerance. Sums of float32 depend on the order of their parts, and that on TensorFlow's version and on the processor:
elsewhere last digits may differ, and `verify` then says what was another there.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from crackflow.core import callable_module, console, errors, flags, json_schema
from crackflow.core.config.trained import PredictConfig
from crackflow.core.errors import UserError, VerificationError
from crackflow.data import image_file
from crackflow.inference.photo_files import PhotoPath
from crackflow.version import __version__

# Flags that do not affect what is compared; findings.json does not hold them.
NOT_SETTINGS = {"photos", "model", "out", "suggest", "page_photos", "reviews", "export", "overwrite", "replay"}
ALLOWED_FLAGS = {"replay", "photos", "model", "threads"}
# Where and by what was predicted, and what people said of it.
NOT_COMPARED = {json_schema.KEY, "settings", "versions", "machine", "reviews"}
SHOWN_DIFFERENCES = 10
MAX_QUOTED = 80  # characters of a value that a message repeats
ABSENT = object()


@dataclasses.dataclass(frozen=True)
class EarlierRun:
    """The content of the findings.json at `path`."""

    path: str
    content: dict[str, Any]

    @property
    def photos(self) -> list[dict]:
        """Its photographs, in their order."""
        return self.content["photos"]

    def restore_settings(self, config: PredictConfig) -> PredictConfig:
        """Returns `config` with the flags of the earlier run; --threads stays if it is given.

        Raises:
            UserError: a flag is given that the file decides, or the settings in the file are none of this version.
        """
        explicit = flags.explicit_flags(config)
        if refused := sorted(explicit - ALLOWED_FLAGS):
            raise UserError(
                f"--{refused[0]}: expected no such flag beside --replay, which takes the flags of {self.path!r} and "
                "writes nothing; leave it out"
            )
        settings = dict(self.content["settings"])
        if "threads" in explicit:
            settings["threads"] = config.threads
        fixed = {"photos": config.photos, "model": config.model, "replay": config.replay}
        try:
            return callable_module.build_config(PredictConfig, settings | fixed)
        except (TypeError, UserError) as error:
            raise UserError(
                f"--replay: expected the settings of a crackflow {__version__} in {self.path!r}, received others "
                f"({error}); use the file as it was written"
            ) from error

    def require_model(self, sha256: str) -> None:
        """Raises: UserError unless `sha256` is that of the model of the earlier run."""
        expected = self.content["model"]["sha256"]
        if sha256 != expected:
            raise UserError(
                f"--model: expected the model of {self.path!r}, SHA-256 {expected[:12]}, received {sha256[:12]}; name "
                "the file that was used then"
            )

    def match_photos(self, files: Sequence[PhotoPath]) -> list[PhotoPath]:
        """Finds the photographs of the earlier run, by their names and, if they were moved, by their SHA-256.

        Args:
            files: the files to choose from.

        Returns:
            A file for each photograph, with its earlier name, in the earlier order.

        Raises:
            UserError: a photograph is missing or has changed.
        """
        by_name, digests = {named.path: named for named in files}, _Digests()
        matches = [by_name.get(photo["path"]) for photo in self.photos]
        wrong = [
            number
            for number, (photo, named) in enumerate(zip(self.photos, matches, strict=True))
            if named is None or digests.of(named) != photo["sha256"]
        ]
        if wrong:
            by_digest = {digests.of(named): named for named in reversed(files)}
            for number in wrong:
                matches[number] = by_digest.get(self.photos[number]["sha256"])
        if absent := [photo["path"] for photo, named in zip(self.photos, matches, strict=True) if named is None]:
            reason = "has changed" if absent[0] in by_name else "is missing"
            raise UserError(
                f"--photos: expected the {len(self.photos):,} photographs of {self.path!r}, received {len(absent):,} "
                f"of them changed or not at all: {absent[0]!r} {reason}; restore it"
            )
        return [
            PhotoPath(named.file, photo["path"]) for photo, named in zip(self.photos, matches, strict=True) if named
        ]

    def verify(self, content: dict[str, Any]) -> str:
        """Compares the findings; prints the first differences if there are any.

        Args:
            content: of the findings.json that would be written now.

        Returns:
            A line that says that all is equal.

        Raises:
            VerificationError: something differs.
        """
        now = json.loads(json.dumps(content))
        photos = f"{len(self.photos):,} photograph{'' if len(self.photos) == 1 else 's'}"
        differences = list(_differences(*(_without(part, NOT_COMPARED) for part in (self.content, now)), ""))
        if not differences:
            return f"replayed {photos}: all findings equal"
        for line in differences[:SHOWN_DIFFERENCES]:
            console.info(line)
        differing = sum(
            before != after
            for before, after in zip(map(json.dumps, self.photos), map(json.dumps, now["photos"]), strict=True)
        )
        raise VerificationError(
            f"replayed {photos}: {differing:,} differ, {len(differences):,} values in all; the first: "
            f"{differences[0]}{_describe_changes(self.content, now)}"
        )


class _Digests:
    """The SHA-256 of files, each read once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, named: PhotoPath) -> str:
        """In hexadecimal; "" for a file that cannot be read."""
        if named.file not in self._known:
            try:
                self._known[named.file] = image_file.digest(image_file.read_file(named.file)).hex()
            except errors.ImageError:
                self._known[named.file] = ""
        return self._known[named.file]


def read_findings(path: str) -> EarlierRun:
    """Reads a findings.json that this version of crackflow wrote.

    Raises:
        UserError: the file can't be read, is no findings.json, or is that of another version.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise UserError(
            f"--replay: expected a findings.json, received {path!r} ({error.strerror}); check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"--replay: {path!r} is damaged ({error}); use the file as it was written") from error
    if not _is_findings(content):
        raise UserError(
            f"--replay: expected a findings.json of crackflow.predict, received {path!r}, which is something else or "
            "damaged; use the file as it was written"
        )
    json_schema.require_known(json_schema.FINDINGS, content, path)
    if content["crackflow"] != __version__:
        raise UserError(
            f"--replay: expected findings of crackflow {__version__}, received those of {content['crackflow']} in "
            f"{path!r}; install that version"
        )
    if not isinstance(content.get("settings"), dict):
        raise UserError(
            f"--replay: expected a findings.json with the settings of its run, received {path!r} without them; "
            "predict once more, and replay that"
        )
    return EarlierRun(path, content)


def _is_findings(content: Any) -> bool:
    """Whether `content` has all that is read before findings are compared."""
    if not isinstance(content, dict) or not isinstance(content.get("crackflow"), str):
        return False
    model, photos = content.get("model"), content.get("photos")
    if not isinstance(model, dict) or not isinstance(model.get("sha256"), str) or not isinstance(photos, list):
        return False
    names = ("path", "sha256", "overlay")
    return bool(photos) and all(
        isinstance(photo, dict) and all(isinstance(photo.get(name), str) for name in names) for photo in photos
    )


def _without(content: dict, names: set[str]) -> dict:
    return {name: value for name, value in content.items() if name not in names}


def _differences(before: Any, now: Any, key: str) -> Iterator[str]:
    """Yields a line for each value that differs, such as 'photos[0].probability: 0.91 then, 0.92 now'."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in {**before, **now}:
            yield from _differences(before.get(name, ABSENT), now.get(name, ABSENT), f"{key}.{name}".lstrip("."))
        if set(before) == set(now) and list(before) != list(now):
            yield f"{key or 'the file'}: keys in another order"
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, pair in enumerate(zip(before, now, strict=True)):
            yield from _differences(*pair, f"{key}[{index}]")
    elif before is ABSENT or now is ABSENT or json.dumps(before) != json.dumps(now):
        yield f"{key}: {_quote(before)} then, {_quote(now)} now"


def _quote(value: Any) -> str:
    if value is ABSENT:
        return "nothing"
    text = f"{len(value):,} entries" if isinstance(value, list) else json.dumps(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}..."


def _describe_changes(earlier: dict, now: dict) -> str:
    """What was another then that may change last digits: '; then numpy 2.1.0, now 2.2.0', or ''."""
    changes = []
    for part in ("settings", "versions", "machine"):
        before, after = earlier.get(part), now.get(part)
        before = before if isinstance(before, dict) else {}
        changes += [
            f"{name} {_quote(before[name])}, now {_quote(value)}"
            for name, value in (after or {}).items()
            if name in before and json.dumps(before[name]) != json.dumps(value)
        ]
    return f"; then {'; '.join(changes)}" if changes else "; versions and machine are the same as then"
