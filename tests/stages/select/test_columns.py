import pickle

import pyarrow as pa
import pytest

from stages.select.columns import Rename

TYPES = {"caption": pa.string(), "seconds": pa.int64(), "heard": pa.struct([("text", pa.string())])}


def test_new_names_stand_at_the_top_with_the_types_of_the_old_ones():
    stage = Rename(columns={"text": "heard.text", "duration": "seconds", "alt": "caption", "id": "key"})
    stage.bind(TYPES)
    stage = pickle.loads(pickle.dumps(stage))
    written = stage.writes()
    assert written.shared
    assert list(written.fields.items()) == [
        ("text", pa.string()),
        ("duration", pa.float64()),
        ("alt", pa.string()),
        ("id", pa.string()),
    ]
    rows = pa.table({"key": ["k"], "heard.text": ["x"], "seconds": [3], "caption": [None]})
    assert stage.table(rows).to_pylist() == [{"text": "x", "duration": 3.0, "alt": None, "id": "k"}]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"key": "caption"}, "cannot be called 'key'"),
        ({"a.b": "caption"}, "cannot be called 'a.b'"),
        ({"duration": "caption"}, "the type double everywhere, but caption is string"),
        ({"text": "heard"}, "the type string everywhere"),
    ],
)
def test_names_that_cannot_be(columns, message):
    with pytest.raises(ValueError, match=message):
        Rename(columns=columns).bind(TYPES)
