"""Label selectors, as meta/v1 has them."""

from typing import Final

from services.watcher.kinds.fields import Field
from weir.model import Requirement, Selector

_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")


def read_selector(field: Field) -> Selector | None:
    """None where it is absent; an empty one selects everything."""
    if field.value is None:
        return None
    expressions = tuple(map(_requirement, field["matchExpressions"].items()))
    return Selector(labels=field["matchLabels"].texts(), expressions=expressions)


def _requirement(item: Field) -> Requirement:
    operator = item["operator"].word(_OPERATORS, "Exists")
    values = tuple(value.text() for value in item["values"].items())
    if not item["key"].text() and item["key"].value in (None, ""):
        item["key"].fail("a label's key")
    if item["operator"].value in (None, ""):
        item["operator"].fail(", ".join(_OPERATORS))
    if operator in ("In", "NotIn") and not values:
        item["values"].fail("at least one value")
    elif operator in ("Exists", "DoesNotExist") and values and item["operator"].value == operator:
        item["values"].fail(f"nothing, as {operator} takes no values")
    return Requirement(key=item["key"].text(), operator=operator, values=values)
