import pickle

import pyarrow as pa
import pytest

from stages.filter.where import Where

HEARD = pa.struct([("text", pa.string()), ("logprob", pa.float64())])
TYPES = {
    "text": pa.string(),
    "duration": pa.float64(),
    "heard": HEARD,
    "tags": pa.list_(pa.string()),
    "end": pa.int64(),
}


def bound(sql, **options):
    stage = Where(sql=sql, **options)
    stage.bind(TYPES)
    return pickle.loads(pickle.dumps(stage))  # as a worker gets it


@pytest.mark.parametrize(
    ("sql", "paths"),
    [
        ("duration > 1", ["duration"]),
        ("heard.text = TEXT", ["heard.text", "text"]),
        ("heard.logprob > -1 AND heard IS NOT NULL", ["heard"]),
        ("len(list_filter(tags, lambda text: text <> 'x')) > 0", ["tags"]),
        ('"end" > 3 -- the word is SQL\'s', ["end"]),
        ("regexp_matches(key, '^a') OR CASE WHEN duration IS NULL THEN true END", ["duration", "key"]),
        ("true", []),
    ],
)
def test_it_reads_what_it_names(sql, paths):
    assert list(bound(sql).reads().fields) == paths


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("durations > 1", "no column 'durations' here: did you mean 'duration'"),
        ("heard.txt = 'a'", "no column 'heard.txt' here: did you mean 'heard.text'"),
        ("text.length > 1", "text has no fields"),
        ("duration", "must say true or false, but it gives DOUBLE"),
        ("text > 3", "Cannot compare values of type VARCHAR and type INTEGER"),
        ("foo(text)", "Scalar Function with name foo does not exist"),
        ("text ~ '['", r"missing \]"),
        ("duration >", "not an SQL expression: syntax error"),
        ("", "the expression is empty"),
        (" -- nothing", "the expression is empty"),
        ("true) FROM (other", "expected one SQL expression"),
        ("true) ORDER BY (1", "expected one SQL expression"),
        ("true; SELECT 1", "not an SQL expression"),
        ("true) FROM other WHERE (true", "expected one SQL expression"),
        ("true), (true", "expected one SQL expression"),
        ("true) UNION SELECT (true", "expected one SQL expression"),
        ("(SELECT true)", "a subquery cannot be used"),
        ("text IN (SELECT 'a')", "a subquery cannot be used"),
        ("EXISTS (FROM read_text('/etc/passwd'))", "a subquery cannot be used"),
        ("sum(duration) > 3", "needs many rows"),
        ("row_number() OVER () < 3", "sees one row"),
        ("random() < 0.5", r"random\(\) cannot be used"),
        ("now() > '2020-01-01'", r"now\(\) cannot be used"),
        ("current_date > '2020-01-01'", "no column 'current_date'"),
        ("duration > $1", "parameters"),
        ("* = 1", r"\* cannot be used"),
        ("COLUMNS('text') = 'a'", r"\* cannot be used"),
    ],
)
def test_what_cannot_be_is_said_at_plan_time(sql, message):
    with pytest.raises(ValueError, match=message):
        Where(sql=sql).bind(TYPES)


def test_null_counts_as_false_and_rows_keep_their_order():
    stage = bound("heard.logprob > -1 AND duration < 5", reason="doubtful")
    rows = pa.table(
        {
            "key": ["a", "b", "c", "d"],
            "duration": [1.0, None, 2.0, 9.0],
            "heard.logprob": [-0.5, -0.5, -2.0, 0.0],
        }
    )
    result = stage.table(rows)
    assert result["key"].to_pylist() == ["a", "b", "c", "d"]
    assert result["_drop"].to_pylist() == [None, "doubtful", "doubtful", "doubtful"]
    assert stage.reasons == ("doubtful",)


def test_many_rows_stay_in_order():
    stage = bound('"end" % 3 = 0')
    rows = pa.table({"key": [str(i) for i in range(300_000)], "end": pa.array(range(300_000))})
    kept = [i for i, drop in enumerate(stage.table(rows)["_drop"].to_pylist()) if drop is None]
    assert kept == list(range(0, 300_000, 3))


def test_true_keeps_all():
    assert bound("true").table(pa.table({"key": ["a"]}))["_drop"].to_pylist() == [None]


def test_a_reason_is_a_word():
    with pytest.raises(ValueError, match="reason"):
        Where(sql="true", reason="Not good")


def test_a_literal_that_does_not_fit_is_found_before_a_row_comes_by():
    with pytest.raises(ValueError, match=r"STRUCT|struct"):
        Where(sql="heard = 'test'").bind(TYPES)
