"""A module that has Ray give an id as it is imported."""

from ray import UniqueID

ID = UniqueID.from_random()
