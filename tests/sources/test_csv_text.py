"""CSV as RFC 4180 has it: every line is accounted for, and no cell is another one without a word."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.sources.csv_text import SWALLOWED, Record, records

CELLS = st.text(st.sampled_from('ab,";\n\r é'), max_size=6)


@given(
    width=st.integers(1, 4),
    rows=st.lists(st.lists(CELLS, min_size=4, max_size=4), max_size=6),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_writer_wrote_comes_back_or_is_called_ambiguous(
    width: int, rows: list[list[str]], end: str
) -> None:
    table = [[f"h{n}" for n in range(width)], *(row[:width] for row in rows)]
    text = io.StringIO()
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(table)

    found = list(records(text.getvalue()))

    if not any(record.fault for record in found):
        assert [record.cells for record in found] == table
    assert {record.fault for record in found} <= {None, SWALLOWED}
    if width == 1 or not any("\n" in cell for row in table for cell in row):
        assert all(record.fault is None for record in found)


@given(st.text(st.sampled_from('ab,"\n\r'), max_size=60))
def test_every_line_is_in_exactly_one_record(text: str) -> None:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    found = list(records(text))

    starts = [record.line for record in found]
    assert starts == sorted(set(starts))
    blank = {number for number, line in enumerate(lines, 1) if line in ("", "\r")}
    spans = dict.fromkeys(starts, 1) | {
        record.line: sum(cell.count("\n") for cell in record.cells) + 1
        for record in found
        if not record.fault
    }
    covered = [line for start, length in spans.items() for line in range(start, start + length)]
    assert len(covered) == len(set(covered))
    assert set(range(1, len(lines) + 1)) - set(covered) <= blank


@given(st.text(st.characters(exclude_characters='"'), max_size=60))
def test_text_without_quotes_is_split_at_commas_and_line_breaks(text: str) -> None:
    for record in records(text):
        if record.fault is None:
            line = text.split("\n")[record.line - 1].removesuffix("\r")
            assert record.cells == line.split(",")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a,b\n1,2", [Record(1, ["a", "b"]), Record(2, ["1", "2"])]),
        ("a\r\n\r\nb\r\n", [Record(1, ["a"]), Record(3, ["b"])]),
        ('a,b\n"x ""y""",2', [Record(1, ["a", "b"]), Record(2, ['x "y"', "2"])]),
        ('a,b\n"",""\n', [Record(1, ["a", "b"]), Record(2, ["", ""])]),
        ('a,b\n1,2"\n', [Record(1, ["a", "b"]), Record(2, ["1", '2"'], "a quote in a cell without quotes")]),
        (
            'a,b\n1, "2"\n',
            [Record(1, ["a", "b"]), Record(2, ["1", ' "2"'], "a quote in a cell without quotes")],
        ),
        (
            "a,b\n1\r2,3\n",
            [Record(1, ["a", "b"]), Record(2, ["1\r2", "3"], "a carriage return outside of quotes")],
        ),
        ('a,b\n"1\r\n2",3\n', [Record(1, ["a", "b"]), Record(2, ["1\r\n2", "3"])]),
        ("a\u2028,b\x85,c\x0b\n", [Record(1, ["a\u2028", "b\x85", "c\x0b"])]),
    ],
)
def test_forms(text: str, expected: list[Record]) -> None:
    assert list(records(text)) == expected


def test_quotes_that_may_have_swallowed_rows_spoil_each_of_their_lines() -> None:
    text = 'id,name,n\n1,"A,1\n2,B,2\n3,C",3\n4,"two\nlines",4\n5,D,"note\nof two"\n'
    assert [(record.line, record.cells[0], record.fault) for record in records(text)] == [
        (1, "id", None),
        (2, "1", SWALLOWED),
        (3, "2", SWALLOWED),
        (4, "3", SWALLOWED),
        (5, "4", None),
        (7, "5", None),
    ]
