"""Reading a decoded document field by field.

Nothing here raises.  A wrong value is noted as a problem with its path and read as if it were absent, so that one pass finds
every problem; a wrong value never reaches an event.
"""

import re
from collections.abc import Collection, Sequence
from ipaddress import ip_address
from itertools import islice
from typing import Final, TypeVar

from weir.model import Address, Problem, parse_address

W = TypeVar("W", bound=str)

Faults = dict[Problem, None]  # each once, in the order found

MOST_TOLD: Final = 20  # faults of one document
MOST_BYTES: Final = 512 << 10  # of an event: the log takes 1 MiB, and what others state of an object holds parts of it
MOST_SHOWN = 80  # characters of a value in a problem
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_NAME = re.compile(rf"(?=.{{1,63}}\Z){_LABEL}")
_DOMAIN_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]{1,9}")
_NEVER: Final = tuple(
    (ip_address(first).version, int(ip_address(first)), int(ip_address(last)), what)
    for first, last, what in (
        ("0.0.0.0", "0.255.255.255", "unspecified, 0.0.0.0/8"),  # noqa: S104  refused, not bound
        ("127.0.0.0", "127.255.255.255", "loopback, 127.0.0.0/8"),
        ("169.254.0.0", "169.254.255.255", "link-local, 169.254.0.0/16"),  # and the clouds' metadata service
        ("224.0.0.0", "239.255.255.255", "multicast, 224.0.0.0/4"),
        ("255.255.255.255", "255.255.255.255", "broadcast"),
        ("::", "::", "unspecified, ::"),
        ("::1", "::1", "loopback, ::1"),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link-local, fe80::/10"),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast, ff00::/8"),
        ("::ffff:0:0", "::ffff:ffff:ffff", "IPv4-mapped, ::ffff:0:0/96"),
    )
)
_METADATA = ("100.100.100.200", "fd00:ec2::254", "fd20:ce::254")  # of clouds that do not use 169.254.169.254


class Field:
    """One place in a document: its value, its path, and where faults are noted."""

    __slots__ = ("_place", "_step", "faults", "value")

    def __init__(self, value: object, place: "str | Field", faults: Faults, step: str | int = "") -> None:
        """place: the path, or the field that has this one under `step`."""
        self.value, self._place, self._step, self.faults = value, place, step, faults

    def __getitem__(self, name: str) -> "Field":
        """The field below; absent ones hold None, as null does.  Below what is no mapping, nothing is reported again."""
        value = self.value
        if isinstance(value, dict):
            return Field(value.get(name), self, self.faults, name)
        if value is not None:
            self.fail("a mapping")
        return Field(None, self, self.faults if value is None else {}, name)

    @property
    def path(self) -> str:
        """`spec.ports[0]`, as people write it; made only when it is asked for."""
        if isinstance(self._place, str):
            return self._place
        above, step = self._place.path, self._step
        if isinstance(step, int):
            return f"{above}[{step}]"
        if not above:
            return step
        return f"{above}.{step}" if _PLAIN.fullmatch(step) else f"{above}[{_quoted(step)}]"

    @property
    def step(self) -> str:
        """The last part of the path."""
        return str(self._step)

    def unnoted(self) -> "Field":
        """Return the same field; its problems are dropped."""
        return Field(self.value, self.path, {})

    def fail(self, accepted: str, got: str | None = None) -> None:
        """Note a problem here, once."""
        self.faults.setdefault(Problem(field=self.path, got=show(self.value) if got is None else got, accepted=accepted))

    def items(self) -> "list[Field]":
        """The fields of a list, `path[0]` …; none where it is absent."""
        if isinstance(self.value, list):
            return [Field(value, self, self.faults, i) for i, value in enumerate(self.value)]
        if self.value is not None:
            self.fail("a list")
        return []

    def text(self) -> str:
        """Printable text; "" where it is absent."""
        if self.value is None:
            return ""
        if isinstance(self.value, str) and self.value.isprintable():
            return self.value
        self.fail("printable text" if isinstance(self.value, str) else "text (in YAML, quotes make it text)")
        return ""

    def texts(self) -> dict[str, str]:
        """A mapping of text to text, as labels are; {} where it is absent."""
        if not isinstance(self.value, dict):
            if self.value is not None:
                self.fail("a mapping")
            return {}
        keys = [key for key in self.value if isinstance(key, str) and key.isprintable()]
        if len(keys) < len(self.value):
            self.fail("keys of printable text (in YAML, quotes make them text)", "another key")
        return {key: self[key].text() for key in sorted(keys)}

    def number(self, low: int, high: int, absent: int = 0) -> int:
        """An integer within `low`-`high`, also written 80.0; true and false are none."""
        if self.value is None:
            return absent
        if isinstance(self.value, int | float) and not isinstance(self.value, bool) and low <= self.value <= high and self.value % 1 == 0:
            return int(self.value)
        self.fail(f"{low}-{high}")
        return absent

    def digits(self, low: int, high: int, absent: int = 0) -> int:
        """Read an integer that is written as text, as in annotations."""
        text = self.text()
        if not text or not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
            if self.value is not None and (text or self.value == ""):
                self.fail(f'"{low}"-"{high}"')
            return absent
        return int(text)

    def flag(self, *, absent: bool) -> bool:
        """true or false."""
        if self.value is None:
            return absent
        if isinstance(self.value, bool):
            return self.value
        self.fail("true, false")
        return absent

    def word(self, accepted: Sequence[W], absent: W) -> W:
        """One of `accepted`; an empty word is absent, as an API server takes it."""
        if self.value in (None, ""):
            return absent
        for word in accepted:
            if self.value == word:
                return word
        self.fail(", ".join(accepted))
        return absent

    def label_name(self, *, empty: bool = False) -> str:
        """A DNS label (RFC 1123), at most 63 characters; "" where it is absent.   empty: "" stands for absent."""
        if empty and self.value == "":
            return ""
        return self._name(_LABEL_NAME, "a DNS label: at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit")

    def domain_name(self) -> str:
        """A DNS subdomain (RFC 1123), at most 253 characters; "" where it is absent."""
        return self._name(
            _DOMAIN_NAME, "a DNS subdomain: at most 253 of a-z, 0-9, - and ., each part beginning and ending with a letter or digit"
        )

    def address(self) -> Address | None:
        """An address that something can be sent to."""
        text = self.text()
        if not text:
            if self.value == "":
                self.fail("an address")
            return None
        address = parse_address(text)
        if address is None:
            self.fail("an IPv4 or IPv6 address, without a zone and not IPv4-mapped")
        elif what := never(address, address):
            self.fail(f"a unicast address (this is {what})")
        return None if address is None or what else address

    def _name(self, pattern: re.Pattern[str], accepted: str) -> str:
        text = self.text()
        if self.value is None or pattern.fullmatch(text):
            return text
        if text or self.value == "":  # else reported by text()
            self.fail(accepted)
        return ""


def told(problems: Collection[Problem], untold: int = 0) -> tuple[Problem, ...]:
    """Return the first MOST_TOLD of `problems`, then one with the number of the others.  untold: those left out before."""
    first = tuple(islice(problems, MOST_TOLD))
    more = len(problems) - len(first) + untold
    return (*first, Problem(field="document", got=f"{more} more like these", accepted="none of them")) if more else first


def never(first: Address, last: Address) -> str:
    """Name what in `first`-`last` can be neither VIP nor endpoint; "" where all can."""
    version, start, end = first.version, int(first), int(last)
    for of, low, high, what in _NEVER:
        if start <= high and low <= end and of == version:
            return what
    return ""


def is_metadata(address: str) -> bool:
    """Whether a cloud answers with credentials at this canonical address (beyond 169.254.0.0/16, which is refused as link-local)."""
    return address in _METADATA


def show(value: object) -> str:
    """`value` for a message: one line, control characters escaped, at most MOST_SHOWN characters of it."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return repr(value) if len(value) <= MOST_SHOWN else f"{value[:MOST_SHOWN]!r} and {len(value) - MOST_SHOWN} characters more"
        case dict():
            return "a mapping"
        case list():
            return f"a list of {len(value)}"
        case int() if value.bit_length() > 64:
            return f"a number of {value.bit_length()} bits"
        case int() | float():
            return repr(value)
    return f"a {type(value).__name__}"


def outline(value: object) -> str:
    """Describe a value without quoting it: the document may be a Secret."""
    match value:
        case None | dict() | list():
            return show(value)
        case str():
            return "text" if value else "empty text"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
    return "another value"


def escaped(text: str) -> str:
    """`text` with all that a terminal might act upon escaped, and halves of surrogate pairs, which no log can hold."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _quoted(name: str) -> str:
    return name if name.isprintable() and len(name) <= MOST_SHOWN else show(name)
