"""Flags: one dataclass per command, with its defaults and checks."""
