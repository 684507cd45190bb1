"""The fields of objects, as Kubernetes 1.36 and Weir's CRDs have them: helpers and what kinds have in common.

`tests/cluster/test_schema.py` compares them with the API's own.  A field that a kind does not have is a fault in a folder; an API
server judges its objects itself, and may be newer.
"""

from typing import Final, Optional

Fields = dict[str, Optional["Fields"]]  # None: whatever is below is free, or has no fields


def fields(names: str, **below: Fields) -> Fields:
    """Fields by name, those with fields of their own as keywords."""
    return {**dict.fromkeys(names.split()), **below}


def of_kind(names: str = "", **below: Fields) -> Fields:
    """The fields of a kind, with those that every kind has."""
    return fields(f"apiVersion kind {names}", metadata=METADATA, **below)


METADATA: Final = fields(
    "annotations creationTimestamp deletionGracePeriodSeconds deletionTimestamp finalizers generateName generation labels name namespace"
    " resourceVersion selfLink uid",
    managedFields=fields("apiVersion fieldsType fieldsV1 manager operation subresource time"),
    ownerReferences=fields("apiVersion blockOwnerDeletion controller kind name uid"),
)
CONDITIONS: Final = fields("lastTransitionTime message observedGeneration reason status type")
SELECTOR: Final = fields("matchLabels", matchExpressions=fields("key operator values"))
