"""Recipient lists as NDJSON and as JSON arrays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.base.errors import InputError, Problem
from mailfleet.mail.recipients import MAX_ROW_BYTES, ListKind, RecipientReader, RecipientRow, list_kind


def read(kind: ListKind, data: bytes, *, step: int = 0, column: str = "") -> list[RecipientRow | Problem]:
    reader = RecipientReader(kind, address_column=column)
    found: list[RecipientRow | Problem] = []
    for at in range(0, len(data), step or len(data) or 1):
        found += reader.feed(data[at : at + (step or len(data))])
    return found + reader.close()


def codes(kind: ListKind, data: bytes) -> list[tuple[int, str]]:
    return [(item.line, item.code if isinstance(item, Problem) else "row") for item in read(kind, data)]


def test_objects_flat_nested_and_plain_addresses() -> None:
    records: list[Any] = [
        {"E-Mail": "ann@example.org", "First name": "Ann", "orders": [{"no": 7}]},
        {"address": "bob@example.org", "name": "Bob", "fields": {"city": "Oslo"}},
        "Carol <carol@example.org>",
    ]
    expected = [
        RecipientRow(
            1,
            "ann@example.org",
            {
                "E-Mail": "ann@example.org",
                "e_mail": "ann@example.org",
                "First name": "Ann",
                "first_name": "Ann",
                "orders": [{"no": 7}],
            },
        ),
        RecipientRow(2, "bob@example.org", {"address": "bob@example.org", "name": "Bob", "city": "Oslo"}),
        RecipientRow(3, "carol@example.org", {"email": "Carol <carol@example.org>", "name": "Carol"}),
    ]
    assert read("json", json.dumps(records, indent=2).encode()) == expected
    assert read("ndjson", "\n".join(json.dumps(record) for record in records).encode()) == expected


def test_ndjson_lines_are_physical_and_blank_ones_are_skipped() -> None:
    assert codes("ndjson", b'\xef\xbb\xbf\n{"email":"a@example.org"}\r\n\r\n{"email":"b@example.org"}') == [
        (2, "row"),
        (4, "row"),
    ]


def test_every_bad_record_is_named_and_reading_goes_on() -> None:
    bad = [
        b'{"email":',
        b"7",
        b'{"name":"x"}',
        b'{"email":5}',
        b'{"email":"\xe9"}',
        b'{"email":"a@example.org","x":"\\u0000"}',
        b'{"email":"a@example.org","x":"\\ud800"}',
    ]
    expected = ["bad-json", "not-an-object", "missing-address", "bad-address", "bad-utf8", "nul", "bad-json", "row"]
    found = codes("ndjson", b"\n".join([*bad, b'{"email":"z@example.org"}']))
    assert found == list(enumerate(expected, start=1))
    bad[0] = b'{"email":}'
    assert codes("json", b"[" + b",".join([*bad, b'{"email":"z@example.org"}']) + b"]") == list(
        enumerate(expected, start=1)
    )


def test_an_oversized_record_is_skipped() -> None:
    big = b'{"email":"a@example.org","x":"' + b"y" * MAX_ROW_BYTES + b'"}'
    good = b'{"email":"b@example.org"}'
    for step in (0, 5000):
        assert [getattr(item, "code", "row") for item in read("json", b"[" + big + b"," + good + b"]", step=step)] == [
            "row-too-long",
            "row",
        ]
        assert [getattr(item, "code", "row") for item in read("ndjson", big + b"\n" + good, step=step)] == [
            "row-too-long",
            "row",
        ]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "empty"),
        (b'{"recipients": []}', "not a JSON array"),
        (b'[{"email":"a@example.org"}', "not closed"),
        (b'[{"email":"a@example.org"}] x', "follows"),
        (b"\xff\xfe[\0", "UTF-16"),
    ],
)
def test_arrays_that_cannot_be_read_at_all(data: bytes, match: str) -> None:
    with pytest.raises(InputError, match=match):
        read("json", data)


def test_empty_arrays_and_gaps() -> None:
    assert read("json", b" [ ] \n") == []
    assert codes("json", b'["a@example.org",,"b@example.org"]') == [(1, "row"), (2, "bad-json"), (3, "row")]


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b{", '"', "\\"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150)
@given(st.lists(_VALUES, max_size=5), st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
def test_any_byte_split_of_an_array_gives_the_written_values(
    values: list[Any], step: int, indent: int | None, ascii_only: bool
) -> None:
    data = json.dumps(
        [{"email": "a@example.org", "v": value} for value in values], indent=indent, ensure_ascii=ascii_only
    ).encode()
    found = read("json", data, step=step)
    assert [item.fields["v"] for item in found if isinstance(item, RecipientRow)] == values


@settings(max_examples=200)
@given(st.lists(st.sampled_from(list('[]{},:"\\ ax\n\r')), max_size=30).map("".join), st.integers(1, 5))
def test_garbage_gives_problems_or_the_typed_error_however_split(text: str, step: int) -> None:
    for kind in ("json", "ndjson"):
        answers: list[object] = []
        for size in (0, step):
            try:
                answers.append(read(kind, b"[" + text.encode(), step=size))
            except InputError as error:
                answers.append(str(error))
        assert answers[0] == answers[1]


def test_kind_by_media_type_then_by_file_name() -> None:
    assert list_kind("text/csv; charset=utf-8", "") == "csv"
    assert list_kind("application/vnd.ms-excel", "List.CSV") == "csv"
    assert list_kind("application/octet-stream", "list.jsonl") == "ndjson"
    assert list_kind("application/json", "list.txt") == "json"
    with pytest.raises(InputError, match="unknown kind"):
        list_kind("image/png", "list")
