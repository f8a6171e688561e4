"""From a data set to people and back: nothing that they decided is lost, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.review.decisions import Decision, decide, load, save


def lines(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().split("\n")[:-1]]


def write(path: str, rows: list[dict]) -> None:
    Path(path).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def test_a_queue_has_all_that_people_need(omnicurate, said):
    assert "5 tasks in q.jsonl" in omnicurate("review", "export", "out/said", "-o", "q.jsonl")
    tasks = lines("q.jsonl")
    assert {task["key"]: task["text"] for task in tasks} == said
    version = Path("out/said/latest").resolve().name
    for number, task in enumerate(tasks):
        assert (task["decision"], task["edited"], task["note"], task["field"]) == (None, None, "", "text")
        assert (task["dataset"], task["version"]) == ("said", version)
        assert (task["scores"], task["context"]) == ({"wer": number / 10}, {"caption": f"c{number}"})
        assert Path(task["media"]["audio"]).read_bytes() == f"sound {number}".encode() * 100
    assert Path(tasks[0]["media"]["image"]).read_bytes() == b"\xff\xd8"
    assert "is there already" in omnicurate("review", "export", "out/said", "-o", "q.jsonl", code=1)


def test_some_of_them(omnicurate, said):
    omnicurate("review", "export", "out/said", "-o", "two.jsonl", "--sample", "2", "--text", "caption")
    omnicurate("review", "export", "out/said", "-o", "three.jsonl", "--sample", "3", "--media", "m/three")
    two, three = lines("two.jsonl"), lines("three.jsonl")
    assert (len(two), len(three)) == (2, 3)
    assert {task["key"] for task in two} < {task["key"] for task in three}
    assert {task["field"] for task in two} == {"caption"}
    assert all(task["media"]["audio"].startswith("m/three/") for task in three)
    omnicurate("review", "export", "out/said", "-o", "bad.jsonl", "--where", "wer > 0.25")
    assert [task["scores"]["wer"] for task in lines("bad.jsonl")] == [0.3, 0.4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--where", "wer > 9"], "is left to look at"),
        (["--text", "txt"], "has no column 'txt'"),
        (["--media", "../elsewhere"], "is not below"),
        (["--media", "."], "is not below"),
    ],
)
def test_mistakes_leave_nothing_behind(omnicurate, said, options, message):
    before = sorted(Path().iterdir())
    assert message in omnicurate("review", "export", "out/said", "-o", "q.jsonl", *options, code=1)
    assert sorted(Path().iterdir()) == before


def test_a_filled_in_queue_comes_back(omnicurate, said):
    omnicurate("review", "export", "out/said", "-o", "q.jsonl")
    tasks = lines("q.jsonl")
    filled = [
        {"decision": "accept"},
        {"decision": "edit", "edited": "zwei\u2028", "note": "spelt wrong", "reviewer": "ann"},
        {"decision": "reject", "note": "noise"},
        {"decision": "accept", "edited": "four"},
        {},
    ]
    write("q.jsonl", [{**task, **answer} for task, answer in zip(tasks, filled, strict=True)])
    output = omnicurate("review", "import", "q.jsonl", "-o", "d.jsonl")
    assert output == "4 decisions (1 accept, 2 edit, 1 reject) in d.jsonl; 1 tasks have none\n"
    found = lines("d.jsonl")
    assert [row["key"] for row in found] == [row["sample"] for row in found] == list(said)[:4]
    assert [(row["decision"], row["text"], row["note"], row["reviewer"]) for row in found] == [
        ("accept", "one", "", ""),
        ("edit", "zwei\u2028", "spelt wrong", "ann"),
        ("reject", None, "noise", ""),
        ("edit", "four", "", ""),
    ]


def test_problems_are_named_with_their_line(omnicurate, said):
    rows = [
        '{"key": "a", "text": "x", "decision": "accept"}',
        '{"key": "b", "text": "x", "decision": "maybe"}',
        "",
        "{",
        '{"key": "c", "text": "x", "decision": "edit"}',
        '{"key": "a", "text": "x", "decision": "reject"}',
        '{"key": "d", "text": "x", "edited": "y"}',
        '{"text": "x", "decision": "accept"}',
        "[1]",
        '{"key": "e", "text": "x", "decision": "edit", "edited": 5}',
    ]
    Path("q.jsonl").write_text("\n".join(rows))
    output = omnicurate("review", "import", "q.jsonl", "-o", "d.jsonl", code=1).splitlines()
    assert output == [
        "q.jsonl:2: the decision 'maybe' is none of accept, edit, reject",
        "q.jsonl:4: not JSON",
        "q.jsonl:5: the decision is edit, but there is no edited text",
        "q.jsonl:6: the key 'a' stands in the file twice",
        "q.jsonl:7: an edited text without a decision",
        "q.jsonl:8: there is no key",
        "q.jsonl:9: not a task",
        "q.jsonl:10: the edited text is no text",
        "1 decisions (1 accept, 0 edit, 0 reject) in d.jsonl; 0 tasks have none",
    ]
    assert "cannot read none.jsonl" in omnicurate("review", "import", "none.jsonl", "-o", "d.jsonl", code=1)


def answered(task: dict, *values: dict, who: object = 7, when: str = "2026-01-01", cancelled: bool = False) -> dict:
    """A task as Label Studio exports it, with one more annotation."""
    shape = {"choices": ("decision", "choices"), "textarea": ("edited", "text")}
    results = []
    for value in values:
        [(kind, given)] = value.items()
        name, field = shape.get(kind, (kind, "text"))
        made = {"from_name": name, "to_name": "text", "type": "choices" if kind == "choices" else "textarea"}
        results.append({"id": "x", "origin": "manual", **made, "value": {field: given}})
    annotation = {"id": 1, "completed_by": who, "result": results, "was_cancelled": cancelled, "updated_at": when}
    return {**task, "annotations": [*task.get("annotations", []), annotation]}


def test_label_studio(omnicurate, said):
    omnicurate("review", "export", "out/said", "-o", "q.json", "--format", "label-studio")
    tasks = json.loads(Path("q.json").read_text())
    assert {task["data"]["key"]: task["data"]["text"] for task in tasks} == said
    config = ElementTree.parse("q.xml")
    names = {element.get("name"): element for element in config.iter() if element.get("name")}
    assert {name: names[name].tag for name in ("audio", "image")} == {"audio": "Audio", "image": "Image"}
    assert [choice.get("value") for choice in config.iter("Choice")] == ["accept", "edit", "reject"]
    for task in tasks:
        shown = {e.get("value")[1:] for e in config.iter() if (e.get("value") or "").startswith("$")}
        assert shown <= task["data"].keys()
        [guess] = task["predictions"][0]["result"]
        assert guess["value"]["text"] == [task["data"]["text"]]
        assert guess["from_name"] in names
        assert guess["to_name"] in names
        assert Path(task["data"]["audio"]).read_bytes().startswith(b"sound")
    first, second, third, fourth, fifth = tasks
    done = [
        answered(first, {"choices": ["accept"]}, {"textarea": [first["data"]["text"]]}, who={"id": 3, "email": "a@b"}),
        answered(second, {"choices": ["edit"]}, {"textarea": ["zwei"]}, {"note": ["spelt wrong"]}),
        answered(answered(third, {"choices": ["accept"]}), {"choices": ["reject"]}, when="2026-02-01"),
        answered(fourth, {"choices": ["accept"]}, cancelled=True),
        answered(fifth, {"textarea": ["no decision"]}),
    ]
    Path("export.json").write_text(json.dumps(done, indent=2))
    output = omnicurate("review", "import", "export.json", "-o", "d.jsonl", code=1)
    line = 1 + json.dumps(done, indent=2).split('"key": "said/g"')[0].rstrip().count("\n") - 2
    assert output.splitlines()[0] == f"export.json:{line + 1}: an edited text without a decision"
    assert [(row["key"], row["decision"], row["text"], row["note"], row["reviewer"]) for row in lines("d.jsonl")] == [
        ("said/a", "accept", "one", "", "a@b"),
        ("said/b/c", "edit", "zwei", "spelt wrong", "7"),
        ("said/d%2Ee", "reject", None, "", "7"),
    ]


def test_a_recipe_takes_the_decisions_over(omnicurate, said):
    decisions = [
        Decision(key="said/a", decision="accept", text="one"),
        Decision(key="said/b/c", decision="edit", text="zwei"),
        Decision(key="said/f", decision="reject"),
    ]
    save(Path("d.jsonl").absolute(), decisions)
    columns = {"sample": "string", "decision": "string", "text": "string"}
    taken = {"decision": "decision", "right": "text"}
    flows = {
        **json.loads(Path("r.yaml").read_text())["flows"],
        "decisions": [{"ingest.jsonl": {"path": "d.jsonl", "columns": columns}}],
        "reviewed": [
            {"join": {"left": "said", "right": "decisions", "by": "key", "right_by": "sample", "columns": taken}},
            {"filter.where": {"sql": "decision <> 'reject'", "reason": "rejected_in_review"}},
            {"select.rename": {"columns": {"text": "right"}}},
        ],
        "others": [{"from": "said"}, {"select.keys": {"file": "d.jsonl"}}],
        "final": [{"union": ["reviewed", "others"]}],
    }
    Path("final.yaml").write_text(json.dumps({"flows": flows, "outputs": {"final": {"pack": "final", "to": "out/f"}}}))
    report = json.loads(omnicurate("run", "final.yaml", "--engine", "local", "--json"))
    rejected = {step["step"]: step["rejected"] for step in report["outputs"][0]["steps"] if step["rejected"]}
    assert rejected["where"] == {"rejected_in_review": 1}
    shown = omnicurate("show", "out/f", "-n", "9", "--json").split("\n")[:-1]
    kept = {key: text for key, text in said.items() if key != "said/f"}
    assert {row["key"]: row["text"] for row in map(json.loads, shown)} == {**kept, "said/b/c": "zwei"}
    assert all(len(row["parts"]) for row in map(json.loads, shown))


texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)


@given(texts, st.sampled_from([None, "accept", "edit", "reject"]), texts, texts)
def test_what_somebody_typed_is_never_dropped(tmp_path_factory, before, decision, edited, note):
    try:
        made = decide("k", before, {"decision": decision, "edited": edited, "note": note}, "me")
    except ValueError:
        assert (decision is None and edited is not None) or (decision == "edit" and edited is None)
        return
    assert (made is None) == (decision is None)
    if made is not None:
        if decision == "edit" or (decision == "accept" and edited):
            assert (made.text or "") == edited
        assert made.note == (note or "")
        path = tmp_path_factory.mktemp("d") / "d.jsonl"
        save(path, [made, made])
        assert load(path) == [made, made]


def test_an_empty_field_of_a_form_is_no_edit():
    accepted = decide("k", "a text", {"decision": "accept", "edited": ""}, "me")
    assert (accepted.decision, accepted.text) == ("accept", "a text")
    emptied = decide("k", "a text", {"decision": "edit", "edited": ""}, "me")
    assert (emptied.decision, emptied.text) == ("edit", "")
