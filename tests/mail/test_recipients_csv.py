"""Recipient lists as CSV: what real lists look like, and the four laws of a parser."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.base.errors import InputError, Problem
from mailfleet.mail.recipients import MAX_CELL_BYTES, MAX_ROW_BYTES, RecipientReader, RecipientRow


def read(data: bytes, *, column: str = "", step: int = 0) -> list[RecipientRow | Problem]:
    reader = RecipientReader("csv", address_column=column)
    found: list[RecipientRow | Problem] = []
    for at in range(0, len(data), step or len(data) or 1):
        found += reader.feed(data[at : at + (step or len(data))])
    return found + reader.close()


def rows(data: bytes, **options: str) -> list[RecipientRow]:
    found = read(data, **options)  # type: ignore[arg-type]  # only column= is passed
    assert all(isinstance(item, RecipientRow) for item in found), found
    return [item for item in found if isinstance(item, RecipientRow)]


def codes(data: bytes) -> list[tuple[int, str]]:
    return [(item.line, item.code if isinstance(item, Problem) else "row") for item in read(data)]


def test_a_plain_list() -> None:
    assert rows(b"email,name\nann@example.org,Ann\nbob@example.org,Bob\n") == [
        RecipientRow(2, "ann@example.org", {"email": "ann@example.org", "name": "Ann"}),
        RecipientRow(3, "bob@example.org", {"email": "bob@example.org", "name": "Bob"}),
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("delimiter", [b",", b";", b"\t"])
def test_bom_line_ends_delimiters_and_blank_lines(end: bytes, delimiter: bytes) -> None:
    data = end.join(
        [b"\xef\xbb\xbfemail,Vorname", b"", b"ann@example.org,Zo\xc3\xab", b"   ", b"bob@example.org,Bob"]
    ).replace(b",", delimiter)
    assert [(row.line, row.fields["Vorname"]) for row in rows(data)] == [(3, "Zoë"), (5, "Bob")]


def test_sep_line_of_spreadsheets_names_the_delimiter() -> None:
    assert rows(b"sep=;\r\nemail;note\r\nann@example.org;a,b\r\n")[0].fields["note"] == "a,b"


def test_quoted_cells_keep_delimiters_quotes_and_line_ends() -> None:
    data = b'email,name,note\r\nann@example.org,"Lee, ""Ann""","one\r\ntwo"\r\nbob@example.org, "B" ,x\r\n'
    assert [(row.line, row.fields["name"], row.fields["note"]) for row in rows(data)] == [
        (2, 'Lee, "Ann"', "one\ntwo"),
        (4, "B", "x"),
    ]


@pytest.mark.parametrize("header", ["E-Mail", "EMAIL", "Email Address", " e_mail ", "Recipient", "address", "to"])
def test_address_column_is_found_by_likely_names(header: str) -> None:
    assert rows(f"id,{header}\n7,ann@example.org\n".encode())[0].address == "ann@example.org"


def test_email_wins_over_a_postal_address_and_address_column_over_both() -> None:
    assert rows(b"address,email\n1 High St,ann@example.org\n")[0].address == "ann@example.org"
    assert rows(b"email,work\nann@example.org,ann@example.net\n", column="Work")[0].address == "ann@example.net"


def test_columns_are_template_variables_too() -> None:
    fields = rows(b"email,First Name,order-no,city\nann@example.org,Ann,7,Oslo\n")[0].fields
    assert fields == {
        "email": "ann@example.org",
        "First Name": "Ann",
        "first_name": "Ann",
        "order-no": "7",
        "order_no": "7",
        "city": "Oslo",
    }


def test_ambiguous_aliases_are_left_out() -> None:
    fields = rows(b"email,a b,a-b,c d,c_d\nann@example.org,1,2,3,4\n")[0].fields
    assert "a_b" not in fields
    assert fields["c_d"] == "4"


def test_display_name_becomes_name_unless_there_is_one() -> None:
    assert rows(b'email\n"""Lee, Ann"" <ann@example.org>"\n')[0].fields["name"] == "Lee, Ann"
    row = rows(b"email,name\nA <ann@example.org>,Ann\n")[0]
    assert (row.address, row.fields["name"]) == ("ann@example.org", "Ann")


def test_missing_cells_are_absent_and_cells_are_trimmed() -> None:
    assert rows(b"email,name,city\n ann@example.org , Ann \n")[0].fields == {
        "email": " ann@example.org ".strip(),
        "name": "Ann",
    }


def test_every_bad_row_is_named_by_line_and_reading_goes_on() -> None:
    data = b"email,name\nann@example\n,Bob\na@example.org,b,c\nd@example.org,\xe9\ne@example.org,\0\nf@example.org,F\n"
    assert codes(data) == [
        (2, "bad-address"),
        (3, "missing-address"),
        (4, "too-many-cells"),
        (5, "bad-utf8"),
        (6, "nul"),
        (7, "row"),
    ]
    problem = next(item for item in read(data) if item.line == 5)
    assert isinstance(problem, Problem)
    assert "0xE9" in problem.what


def test_a_quote_that_never_ends_costs_its_own_row_only() -> None:
    data = b'email,name\nann@example.org,"Ann\nbob@example.org,Bob\ncarol@example.org,"Ca,rol"\ndan@example.org,D\n'
    assert codes(data) == [(2, "open-quote"), (3, "row"), (4, "row"), (5, "row")]
    assert codes(b'email,name\nann@example.org,"Ann\nbob@example.org,Bob') == [(2, "open-quote"), (3, "row")]


def test_text_behind_a_closing_quote_is_refused_not_guessed() -> None:
    assert codes(b'email\n"ann lee"@example.org\n"""ann lee""@example.org"\n') == [(2, "stray-quote"), (3, "row")]


def test_bounds_of_cell_row_and_columns() -> None:
    cell = b"x" * (MAX_CELL_BYTES + 1)
    row = b"y" * (MAX_ROW_BYTES + 1)
    data = b"email,note\na@example.org," + cell + b"\nb@example.org," + row + b"\nc@example.org,ok\n"
    for step in (0, 4096):
        found = read(data, step=step)
        assert [(item.line, getattr(item, "code", "row")) for item in found] == [
            (2, "cell-too-long"),
            (3, "row-too-long"),
            (4, "row"),
        ]
    with pytest.raises(InputError, match="more than 200 columns"):
        read(",".join(f"c{index}" for index in range(201)).encode() + b"\n")


def test_memory_stays_bounded_when_a_line_never_ends() -> None:
    reader = RecipientReader("csv")
    reader.feed(b"email\n")
    for _ in range(100):
        assert reader.feed(b"x" * 65536) == []
        assert len(reader._buffer) <= MAX_ROW_BYTES + 65536
    assert [item.code for item in reader.close() if isinstance(item, Problem)] == ["row-too-long"]


def test_a_list_made_of_restarts_is_given_up() -> None:
    evil = b"email,b\n" + b'a",""" \n' * 60_000
    with pytest.raises(InputError, match="never closed"):
        read(evil, step=65536)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"\xff\xfee\0", "UTF-16"),
        (b"\xfe\xff\0e", "UTF-16"),
        (b"name,city\nAnn,Oslo\n", "the columns are: name, city"),
        (b"ann@example.org,Ann\n", "not a header row"),
        (b"email,,x\n", "has no name"),
        (b"email,x,x\n", "twice"),
        (b'email,"x\n', "never closed"),
        (b"email,n\xe9\n", "not valid UTF-8"),
        (b"e\0m\0a\0i\0l\0\n", "NUL"),
    ],
)
def test_lists_that_cannot_be_read_at_all(data: bytes, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read(data)
    assert caught.value.mend


def test_wrong_address_column_is_named() -> None:
    with pytest.raises(InputError, match="no column 'mail2'; the columns are: email"):
        read(b"email\nann@example.org\n", column="mail2")


_CELL = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs"]) | st.sampled_from(',;\t" \n'),
    max_size=12,
)


@settings(max_examples=150)
@given(st.lists(st.tuples(_CELL, _CELL), max_size=6), st.sampled_from(",;\t"), st.sampled_from(["\r\n", "\n", "\r"]))
def test_what_a_csv_writer_wrote_is_read_back(cells: list[tuple[str, str]], delimiter: str, end: str) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=end)
    writer.writerow(["email", "one", "two"])
    writer.writerows(("a@example.org", *pair) for pair in cells)
    assert [(row.fields["one"], row.fields["two"]) for row in rows(out.getvalue().encode())] == cells


_DIRT = st.lists(
    st.sampled_from(
        [
            b"a@example.org",
            b"x",
            b",",
            b";",
            b'"',
            b'""',
            b"\n",
            b"\r",
            b"\r\n",
            b" ",
            b"\xe9",
            b"\xc3\xa9",
            b"\0",
            b"@",
            b"<",
            b">",
        ]
    ),
    max_size=40,
).map(b"".join)


@settings(max_examples=200)
@given(_DIRT, st.integers(1, 7))
def test_any_byte_split_gives_the_same_and_garbage_only_problems(dirt: bytes, step: int) -> None:
    data = b"\xef\xbb\xbfemail,name\r\n" + dirt
    whole = read(data)
    assert read(data, step=step) == whole
    assert [item.line for item in whole] == sorted(item.line for item in whole)


@settings(max_examples=150)
@given(st.binary(max_size=60), st.integers(1, 5))
def test_any_bytes_give_rows_problems_or_the_typed_error(data: bytes, step: int) -> None:
    answers = []
    for size in (0, step):
        try:
            answers.append(read(data, step=size))
        except InputError as error:
            answers.append(str(error))  # type: ignore[arg-type]  # compared only
    assert answers[0] == answers[1]


def test_a_first_line_that_is_too_long_is_said_to_be_so() -> None:
    reader = RecipientReader("csv")
    with pytest.raises(InputError, match="too long to be a header row"):
        reader.feed(b"a" * 3_000_000 + b"\nann@example.org\n")
