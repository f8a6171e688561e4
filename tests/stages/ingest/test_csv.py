import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from stages.base import New, Reject
from stages.ingest.csv import Csv


def read(source):
    return [result for origin in source.origins() for result in source.read(origin)]


def test_types_and_rejects(tmp_path):
    (tmp_path / "t.csv").write_bytes(
        b'\xef\xbb\xbfname,n,x,zip,ok,empty\n"a, ""b""\nc",1,1,007,true,\nd,-2,2.5,100,False,\n'
        b"short,1\n\n\xff,1,1,1,true,\ne,not a number,1,1,true,late\n"
    )
    source = Csv(path=str(tmp_path / "t.csv"), columns=None)
    types = {name: str(kind) for name, kind in source.writes().fields.items()}
    assert types == {
        "name": "string",
        "n": "string",  # one of its cells is no number
        "x": "double",
        "zip": "string",  # 007 is a name
        "ok": "bool",
        "empty": "string",
        "extra": "string",
    }
    first, second, short, bytes_, last = read(source)
    assert first == New(
        {"name": 'a, "b"\nc', "n": "1", "x": 1.0, "zip": "007", "ok": True, "empty": None}, key="t/000000000"
    )
    assert second.columns["ok"] is False
    assert short == Reject("wrong_width", "line 5: 2 cells where 6 are expected", "t/000000002")
    assert (bytes_.reason, bytes_.detail) == ("not_utf8", "line 7")
    assert last.columns["empty"] == "late"


def test_a_column_is_a_number_when_95_of_100_cells_are(tmp_path):
    lines = [f"{i},{'x' if i < 6 else i},{i}.5,true,{'007' if i == 9 else i}," for i in range(1, 101)]
    lines[50] = "x,1,x,x,1,"
    (tmp_path / "t.csv").write_text("\n".join(["n,m,f,ok,zip,width", *lines]))
    source = Csv(path=str(tmp_path / "t.csv"))
    types = {name: str(kind) for name, kind in source.writes().fields.items()}
    assert types == {"n": "int64", "m": "int64", "f": "double", "ok": "bool", "zip": "string", "extra": "string"}
    assert read(source)[50].columns == {"n": "x", "m": 1, "f": "x", "ok": "x", "zip": "1"}  # a reject: wrong_type
    (tmp_path / "t.csv").write_text("\n".join(["m", *(["x"] * 6), *(["1"] * 94)]))
    assert str(Csv(path=str(tmp_path / "t.csv")).writes().fields["m"]) == "string"


def test_declared_types(tmp_path):
    (tmp_path / "t.csv").write_text('n,tags\n5,"[""a""]"\nx,\n')
    found = read(Csv(path=str(tmp_path / "t.csv"), columns={"n": "int", "tags": "strings"}))
    assert [result.columns for result in found] == [{"n": 5, "tags": ["a"]}, {"n": "x", "tags": None}]


def test_tabs_without_header_and_without_quotes(tmp_path):
    (tmp_path / "t.tsv").write_text('1\t"open\n2\tb\n')
    found = read(Csv(path=str(tmp_path), names=["id", "text"], quotes=False, id="id"))
    assert [(result.key, result.columns["text"]) for result in found] == [("1", '"open'), ("2", "b")]


def test_a_quote_that_never_ends_costs_its_own_rows_only(tmp_path):
    (tmp_path / "a.csv").write_text('a,b\n1,2\n"3,4\n5,6\n')
    (tmp_path / "b.csv").write_text("a,a\n1,2\n")
    (tmp_path / "c.csv").write_text("")
    (tmp_path / "d.csv").write_text("a,b\n7,8\n")
    found = read(Csv(path=str(tmp_path)))
    assert [r.reason if isinstance(r, Reject) else r.columns["a"] for r in found] == [
        1,
        "broken_csv",
        "broken_header",
        7,
    ]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=6)


@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=6))
def test_what_python_writes_comes_back(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    text = io.StringIO()
    csv.writer(text).writerows([["a", "b"], *table])
    path.write_bytes(text.getvalue().encode())
    found = read(Csv(path=str(path), columns={"a": "string", "b": "string"}))
    assert [[r.columns["a"] or "", r.columns["b"] or ""] for r in found] == table
