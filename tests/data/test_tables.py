"""Tables in the separators, encodings and habits of spreadsheets, read alike for images and bags."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vision_train.data.bags.tables import read_labels
from vision_train.data.image_files import list_images
from vision_train.data.image_tables import read_csv
from vision_train.data.tables import read_table, split_named
from vision_train.errors import UserError

LINES = [["path", "label", "split"], ["owl.png", "héron", "Train"], [" cat.png ", "cat", "TEST"]]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for name in ("owl.png", "cat.png"):
        (tmp_path / name).touch()
    return tmp_path / "table.csv"


def written(table: Path, text: str, encoding: str = "utf-8") -> Path:
    table.write_bytes(text.encode(encoding))
    return table


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_images_are_listed_as_any_spreadsheet_writes_them(
    table: Path, separator: str, encoding: str, newline: str
) -> None:
    lines = [*LINES, ["", "", ""], ["", "", ""]]
    written(table, newline.join(separator.join(cells) for cells in lines), encoding)
    samples = read_csv(table, None).samples
    assert [(s.id, s.truth, s.split) for s in samples] == [("owl.png", "héron", "train"), ("cat.png", "cat", "test")]
    assert list_images([table])[0] == [str(table.parent / name) for name in ("owl.png", "cat.png")]


def test_lines_are_counted_as_an_editor_counts_them(table: Path) -> None:
    read = read_table(written(table, '\n;;\na;b\n\n1;"two\nlines"\n;;;\n3;4\n'))
    assert read.columns == ["a", "b"]
    assert read.rows == [(6, {"a": "1", "b": "two\nlines"}), (8, {"a": "3", "b": "4"})]


def test_separators_in_quotes_separate_nothing(table: Path) -> None:
    read = read_table(written(table, '"a;b;c",d\n"1;2",3\n'))
    assert read.columns == ["a;b;c", "d"]
    assert read.rows == [(2, {"a;b;c": "1;2", "d": "3"})]


def test_missing_cells_are_empty(table: Path) -> None:
    assert read_table(written(table, "a,b\n1\n1,2,\n")).rows == [(2, {"a": "1", "b": ""}), (3, {"a": "1", "b": "2"})]


@pytest.mark.parametrize("text", ["path,label\n\nowl.png,a,b\n", "slide_id,label,\n\nowl,a,b\n"])
def test_values_behind_the_last_column_are_refused(table: Path, text: str) -> None:
    for reader in (read_labels, lambda table: read_csv(table, None)):
        with pytest.raises(UserError, match=r"table\.csv line 3: `b` .*last column, label.*[Qq]uote"):
            reader(written(table, text))


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"'])
def test_the_line_that_tells_excel_the_separator_is_no_header(table: Path, first: str) -> None:
    read = read_table(written(table, f"{first}\r\na;b,c\r\n1;2\r\n", "utf-8-sig"))
    assert (read.columns, read.rows) == (["a", "b,c"], [(3, {"a": "1", "b,c": "2"})])
    assert read_table(written(table, "sep=|\na|b\n1|2\n")).columns == ["a", "b"]


def test_the_case_of_columns_does_not_count_where_it_tells_none_apart(table: Path) -> None:
    samples = read_csv(written(table, "Path,LABEL,Split\nowl.png,a,train\n"), None).samples
    assert [(s.id, s.truth, s.split) for s in samples] == [("owl.png", "a", "train")]
    assert read_labels(written(table, "Slide_ID,Case_id,Label\na,p,x\n")).slides["a"].case == "p"
    assert read_table(written(table, "Age,age,A\n1,2,3\n")).columns == ["Age", "age", "a"]
    with pytest.raises(UserError, match="two columns are called label"):
        read_table(written(table, "Label,label,A\n1,2,3\n"))


def test_the_first_column_without_a_name_is_the_index(table: Path) -> None:
    read = read_table(written(table, ",train,,\n7,a,,\n"))
    assert read.columns == ["", "train", "", ""]
    assert read.rows == [(2, {"": "7", "train": "a"})]


def test_windows_punctuation_keeps_its_meaning(table: Path) -> None:
    assert read_table(written(table, "a\n5 – 7 €\n", "cp1252")).rows == [(2, {"a": "5 – 7 €"})]


def test_every_byte_of_latin_1_is_read(table: Path) -> None:
    table.write_bytes(b"a\n\x81\n\x8d\n")
    assert len({row["a"] for _, row in read_table(table).rows}) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04\0\0", "is a binary file; export the table as csv"),
        ("a,b\n".encode("utf-16-le"), "is a binary file; export the table as csv"),  # no byte order mark
        (b"\xff\xfea", "is a binary file"),
        (b'a,b\n"1\n' + b"x" * 200_000, "not a csv file"),
        (b'path,label\na,1\nb,"2\nc,2', "a quote that opens in line 3 is never closed; close it"),
        (b"a,b, a\n1,2,3\n", "two columns are called a; give each a name of its own"),
    ],
)
@pytest.mark.parametrize("reader", [read_table, read_labels, lambda table: read_csv(table, None)])
def test_files_that_hold_no_table(table: Path, content: bytes, message: str, reader: Callable[[Path], object]) -> None:
    table.write_bytes(content)
    with pytest.raises(UserError) as refused:
        reader(table)
    assert str(refused.value).startswith(str(table))
    assert message in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.csv: No such file"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="Is a directory"):
        read_table(tmp_path)


def test_columns_and_values_that_are_asked_for(table: Path) -> None:
    read = read_table(written(table, "a,b\n1,\n"))
    assert read.rows_with("a") == read.rows_with("a", "b", filled=False) == read.rows
    with pytest.raises(UserError, match=r"table\.csv line 2: the b is empty"):
        read.rows_with("a", "b")
    with pytest.raises(UserError, match=r"table\.csv: no column c .found: a, b.* among them a,c"):
        read.rows_with("a", "c")
    with pytest.raises(UserError, match=r"no column a .found: nothing"):
        read_table(written(table, "")).rows_with("a")


def test_splits_are_named_by_any_name() -> None:
    assert [split_named(text, "") for text in ("train", "Val", "TEST", "Training", "dev")] == [
        *("train", "val", "test"),
        *("train", "val"),
    ]
    for text in ("later", ""):
        with pytest.raises(UserError, match=rf"table\.csv line 3: split_info is `{text}`; write train, val or test"):
            split_named(text, "table.csv line 3", "split_info")
