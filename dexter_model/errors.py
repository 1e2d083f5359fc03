"""The errors a person sees: bad input (which file, why, and what to do about it), and a run worse than its baseline.

And which errors are storage's, so that the same may go well at another time or on another machine.
"""

from __future__ import annotations

from typing import Any

STORAGE_CODES = ("store_unreachable", "s3_unreachable")
_OF_WHAT_IS_THERE = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)


class InputError(Exception):
    """Bad input, told in one sentence; inside a batch it is what sends an item to quarantine.

    Args:
        path: the file (or URL, or option) at fault.
        reason: what is wrong with it, without a final full stop.
        remedy: what the person can do, without a final full stop.
        code: short snake_case reason for quarantine tables and counts, e.g. ``score_unreadable``.
    """

    def __init__(self, path: object, reason: str, remedy: str, code: str) -> None:
        from dexter_model.places import shown  # not above: places raise this error

        self.path = shown(str(path))
        super().__init__(f"{self.path}: {reason}. {remedy}.")
        self.reason = reason
        self.remedy = remedy
        self.code = code
        self.traceback = ""  # told by the process that raised it, when it was passed on to another

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str, str], dict[str, object]]:
        return type(self), (self.path, self.reason, self.remedy, self.code), self.__dict__


class RegressionError(Exception):
    """A run is worse than its baseline; everything of it was written before this is raised.

    Args:
        told: what got worse, by how much and where, a line a figure.
        result: what the run would have returned.
    """

    def __init__(self, told: list[str], result: Any = None) -> None:
        super().__init__("worse than the baseline:\n" + "\n".join(told))
        self.told = told
        self.result = result

    def __reduce__(self) -> tuple[type[RegressionError], tuple[list[str], Any]]:
        return type(self), (self.told, self.result)


def storage_trouble(error: object) -> bool:
    """Whether storage could not be reached or failed (a network, a server, a full disk): no fault of what was done."""
    if isinstance(error, OSError):
        return not isinstance(error, _OF_WHAT_IS_THERE)
    return getattr(error, "code", None) in STORAGE_CODES
