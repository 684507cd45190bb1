"""What the parsers of YAML and JSON may report in an event: these messages, which contain no part of the text they are about.

Any other message might quote a Secret, and the log is never purged.
"""

from typing import Final

_OTHER: Final = "it does not parse"
_SAFE: Final = frozenset(
    (
        # libyaml
        "block sequence entries are not allowed in this context",
        "but found another document",
        "control characters are not allowed",
        "could not find expected ':'",
        "could not find expected directive name",
        "did not find URI escaped octet",
        "did not find expected '!'",
        "did not find expected ',' or ']'",
        "did not find expected ',' or '}'",
        "did not find expected '-' indicator",
        "did not find expected <document start>",
        "did not find expected alphabetic or numeric character",
        "did not find expected comment or line break",
        "did not find expected digit or '.' character",
        "did not find expected hexdecimal number",
        "did not find expected key",
        "did not find expected node content",
        "did not find expected tag URI",
        "did not find expected version number",
        "did not find expected whitespace",
        "did not find expected whitespace or line break",
        "did not find the expected '>'",
        "duplicate %TAG directive",
        "found a tab character that violates indentation",
        "found a tab character where an indentation space is expected",
        "found an indentation indicator equal to 0",
        "found character that cannot start any token",
        "found duplicate %TAG directive",
        "found duplicate %YAML directive",
        "found duplicate anchor; first occurrence",
        "found extremely long version number",
        "found incompatible YAML document",
        "found invalid Unicode character escape code",
        "found undefined alias",
        "found undefined tag handle",
        "found unexpected ':'",
        "found unexpected document indicator",
        "found unexpected end of stream",
        "found unexpected non-alphabetical character",
        "found unknown directive name",
        "found unknown escape character",
        "mapping keys are not allowed in this context",
        "mapping values are not allowed in this context",
        "second occurrence",
        # json
        "Expecting ',' delimiter",
        "Expecting ':' delimiter",
        "Expecting property name enclosed in double quotes",
        "Expecting value",
        "Extra data",
        "Invalid \\uXXXX escape",
        "Unterminated string starting at",
    )
)


def safe(message: str | None) -> str:
    """The parser's message where it is known to quote nothing."""
    return message if message in _SAFE else _OTHER
