from __future__ import annotations

import webdataset
from hypothesis import given
from hypothesis import strategies as st

from schemas.keys import MAX_BYTES, child_key, make_key, repeat_key

ids = st.text(min_size=1, max_size=200)


@given(ids, ids)
def test_a_key_can_be_a_member_name(source, local):
    key = make_key(source, local)
    assert "." not in key
    assert len(key.encode()) <= MAX_BYTES
    assert not key.startswith("/")
    assert "//" not in key
    assert webdataset.tariterators.base_plus_ext(f"{key}.speech.wav") == (key, "speech.wav")


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=300), unique=True))
def test_different_ids_have_different_keys(locals_):
    assert len({make_key("s", local) for local in locals_}) == len(locals_)


@given(ids, st.integers(0, 20_000), st.integers(0, 20_000))
def test_children_and_repeats_are_told_apart(local, first, second):
    key = make_key("s", local)
    names = {key, child_key(key, first), child_key(key, second), repeat_key(key, first + 1)}
    assert len(names) == 3 + (first != second)
    assert all(len(name.encode()) <= MAX_BYTES for name in names)


def test_what_keys_look_like():
    assert make_key("asterisk", "digits/1.wav") == "asterisk/digits/1%2Ewav"
    assert make_key("s", "../../etc/passwd") == "s/%2E%2E/%2E%2E/etc/passwd"
    assert child_key("s/a", 3) == "s/a-0003"
    assert repeat_key("s/a", 0) == "s/a"
    assert repeat_key("s/a", 1) == "s/a~2"
