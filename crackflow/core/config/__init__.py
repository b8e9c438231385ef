"""Flags: a dataclass for each command, with its defaults and checks."""
