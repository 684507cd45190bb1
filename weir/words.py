"""Words for people: what is said of many."""

from collections.abc import Iterable


def few(words: Iterable[str], most: int = 5, apart: str = ", ") -> str:
    """The first of `words`, and how many more there are: the log has every one."""
    listed = list(words)
    more = [f"and {len(listed) - most} more"] if len(listed) > most else []
    return apart.join([*listed[:most], *more])


def reason_of(error: BaseException) -> str:
    """What `error` says; of one that says nothing, as a timeout does, what it is."""
    return str(error) or ("no answer" if isinstance(error, TimeoutError) else type(error).__name__)
