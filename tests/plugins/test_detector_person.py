"""The detector of people's names: how they are written, and where they come from."""

import os

import pytest
from pydantic import ValidationError

from northbound_detectors import Person
from northbound_detectors.names import Names

PEOPLE = [
    "Jane Doe",
    "Zoë Müller",
    "Anne-Marie O'Brien",
    "Doe, John",
    "王小明",
    "김철수",
    "ガガ",
    "Søren Łukasz",
    "Cher",
    "Мария Иванова",
    "김민준",
    "Mary O'Hara",
    "Giulia D'Angelo",
    "Mohamed El-Sayed",
    "Luca De Santis",
]


def found(names, text):
    return [text[item.start : item.end] for item in names.find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Jane Doe", ["Jane Doe"]),
        ("DOE, JANE is here", ["DOE, JANE"]),
        ("jane.doe jane_doe JANE-DOE Jane  Doe", ["jane.doe", "jane_doe", "JANE-DOE", "Jane  Doe"]),
        ("Jane Doe's desk", ["Jane Doe"]),
        ("desk/jane.doe/state", ["jane.doe"]),
        ("Jane\nDoe, John Doe", ["Jane\nDoe", "John Doe"]),
        ("Zoe Muller, ZOË MÜLLER, Zoe\u0308 Mu\u0308ller", ["Zoe Muller", "ZOË MÜLLER", "Zoe\u0308 Mu\u0308ller"]),
        ("anne marie o\u2019brien", ["anne marie o\u2019brien"]),
        ("Soren Lukasz", ["Soren Lukasz"]),
        ("会议由王小明主持, 김철수가 ガガさん", ["王小明", "김철수", "ガガ"]),
        ("мария иванова", ["мария иванова"]),
        ("김민준", ["김민준"]),
        ("김민준님, 김민수", ["김민준"]),
        ("O'Hara, Mary; D\u2019ANGELO, GIULIA", ["O'Hara, Mary", "D\u2019ANGELO, GIULIA"]),
        ("El-Sayed, Mohamed and De Santis, Luca", ["El-Sayed, Mohamed", "De Santis, Luca"]),
        *((text, []) for text in ("O'Hara; Mary", "O'Hara Room", "Mary O'Neill", "El Mohamed, Sayed")),
        *((text, []) for text in ("jane.doe2", "xjane doe", "Jane! Doe", "Jane / Doe", "Jane Cher Doe", "Jane", "")),
    ],
)
def test_names_however_they_are_written(text, expected):
    assert found(Names(PEOPLE), text) == expected


def test_equal_names_have_one_canonical_form():
    texts = ["Zoë Müller", "muller, zoe", "ZOE_MULLER"]
    names = Names(PEOPLE)
    assert {item.canonical for text in texts for item in names.find(text)} == {"zoe muller"}
    turned = ["Mary O'Hara", "O'Hara, Mary", "mary.o-hara"]
    assert [[item.canonical for item in names.find(text)] for text in turned] == [["mary o hara"]] * 3


def test_the_longest_name_is_found():
    assert found(Names(["Jane Doe", "Jane Doe Smith"]), "Jane Doe Smith") == ["Jane Doe Smith"]


def test_single_words_only_where_asked_for():
    assert found(Names(PEOPLE), "Cher sings") == []
    assert found(Names(PEOPLE, single=True), "Cher sings") == ["Cher"]


def test_a_hundred_thousand_names():
    names = Names(f"Anna{number % 300} Name{number}" for number in range(100_000))
    assert len(names) == 200_000  # each in both orders
    assert found(names, "x Anna7 Name99907 y, Name5 Anna5, Anna7 Name8") == ["Anna7 Name99907", "Name5 Anna5"]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "staff.txt"
    path.write_text("# staff\nJane Doe  # facilities\n\nZoë Müller\n", encoding="utf-8")
    return path


def texts(detector, text):
    return [text[item.start : item.end] for item in detector.find(text, "")]


def later(path, content):
    changed = path.stat().st_mtime_ns + 1_000_000_000
    path.write_text(content, encoding="utf-8")
    os.utime(path, ns=(changed, changed))


def test_a_file_of_names(path):
    detector = Person(Person.Config(names=path), name="staff")
    assert detector.learns_from is None
    assert texts(detector, "Jane Doe, Zoe Muller, facilities") == ["Jane Doe", "Zoe Muller"]


def test_the_first_column_of_a_table(tmp_path):
    path = tmp_path / "staff.csv"
    path.write_bytes('\ufeff"Doe, Jane",jane@example.com\r\nJohn Smith,\r\n'.encode())
    detector = Person(Person.Config(names=path), name="staff")
    assert texts(detector, "jane doe and john smith") == ["jane doe", "john smith"]


def test_a_changed_file_is_read_again(path):
    detector = Person(Person.Config(names=path), name="staff")
    later(path, "John Smith\n")
    assert texts(detector, "Jane Doe, John Smith") == ["Jane Doe"]
    detector.refresh()
    assert texts(detector, "Jane Doe, John Smith") == ["John Smith"]


@pytest.mark.parametrize("content", [None, b"", b"# nobody\n", b"\xff\xfe\n", b"Cher\n"])
def test_a_file_that_says_nothing_leaves_the_old_names(path, content):
    detector = Person(Person.Config(names=path), name="staff")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    for _ in range(2):  # it is not taken for read
        with pytest.raises(OSError, match="staff"):
            detector.refresh()
    assert texts(detector, "Jane Doe") == ["Jane Doe"]


def test_a_missing_file_is_said_when_the_detector_is_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        Person(Person.Config(names=tmp_path / "none.txt"), name="staff")


def test_names_that_a_source_knows():
    detector = Person(Person.Config(source="building"), name="staff")
    assert detector.learns_from == "building"
    with pytest.raises(RuntimeError, match="'building' has not yet said"):
        detector.find("Jane Doe", "")
    detector.learn(["Jane Doe"])
    detector.refresh()
    assert texts(detector, "Jane Doe, John Smith") == ["Jane Doe"]
    detector.learn(["John Smith"])
    assert texts(detector, "Jane Doe, John Smith") == ["John Smith"]
    detector.learn([])
    assert texts(detector, "Jane Doe, John Smith") == []


@pytest.mark.parametrize("options", [{}, {"names": "staff.txt", "source": "building"}])
def test_names_or_a_source(options):
    with pytest.raises(ValidationError, match="give either names, a file, or source"):
        Person.Config(**options)
