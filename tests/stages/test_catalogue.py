import dataclasses

import pytest

from pipelines.describe import options_schema
from stages.base import Combine, Gather, Stage
from stages.catalogue import find_model, find_stage, model_names, stage_names


@pytest.mark.parametrize(
    ("find", "name"), [(find_stage, n) for n in stage_names()] + [(find_model, n) for n in model_names()]
)
def test_every_name_leads_to_documented_options(find, name):
    cls = find(name)
    assert cls.__doc__
    described = options_schema(cls).get("properties", {})
    assert [field.name for field in dataclasses.fields(cls) if not described[field.name].get("description")] == []


@pytest.mark.parametrize("name", stage_names())
def test_every_stage_does_its_work(name):
    cls = find_stage(name)
    methods = {"groups", "origins", "read", "each", "table", "batch", "partial", "merge", "apply", "rows"}
    kind = next(base for base in cls.__mro__ if base.__module__ == "stages.base" and base is not Stage)
    own = {"read", "origins"} if kind.__name__ == "Source" else methods & vars(kind).keys()
    assert all(getattr(cls, method) is not getattr(kind, method) for method in own)
    assert issubclass(cls, Combine) == (name == "join")
    assert issubclass(cls, Gather) == (name == "select.limit")
