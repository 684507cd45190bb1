"""The values that events carry and cores compute with.

All are frozen and compare by content.  Addresses travel as canonical text, numbers are integers and carry their unit.
"""

from weir.model.address import Address, Family, begins_with_anycast, endpoint_name, families_of, family_of, parse_address
from weir.model.l4 import MORE_REJECTED, Algorithm, Backend, BackendState, Mode, NoBackend, Rejection, seen_from
from weir.model.objects import Condition, Problem, Requirement, Root, Selector, cluster_of, name_in
from weir.model.services import Endpoint, FamilyPolicy, Probe, Protocol, ServicePort, Share, SlicePort, Targets, better
from weir.model.value import Value

__all__ = [
    "MORE_REJECTED",
    "Address",
    "Algorithm",
    "Backend",
    "BackendState",
    "Condition",
    "Endpoint",
    "Family",
    "FamilyPolicy",
    "Mode",
    "NoBackend",
    "Probe",
    "Problem",
    "Protocol",
    "Rejection",
    "Requirement",
    "Root",
    "Selector",
    "ServicePort",
    "Share",
    "SlicePort",
    "Targets",
    "Value",
    "begins_with_anycast",
    "better",
    "cluster_of",
    "endpoint_name",
    "families_of",
    "family_of",
    "name_in",
    "parse_address",
    "seen_from",
]
