"""What a label means."""

import pytest

from m2clip.data.classes import ClassTable
from m2clip.errors import ManifestError


def resolve(table: ClassTable, *labels: str) -> list[int]:
    return table.resolve([(f"list.txt:{line}", label) for line, label in enumerate(labels, start=1)])


def test_ids_and_names():
    table = ClassTable(("hand shaking", "Jump", "run"), folders=("", "jmp", ""))
    assert resolve(table, "2", "0", "1", "00") == [2, 0, 1, 0]
    assert resolve(table, "run", "hand shaking", "jmp", "Jump", "hand_shaking", "JUMP", "Hand__Shaking") == [
        2,
        0,
        1,
        1,
        0,
        1,
        0,
    ]
    assert resolve(table) == []


def test_names_that_look_like_numbers():
    assert resolve(ClassTable(("007", "42")), "42", "007") == [1, 0]
    assert resolve(ClassTable(("0", "1")), "1", "0") == [1, 0]
    assert resolve(ClassTable(("7", "none")), "0", "1", "0") == [0, 1, 0]
    assert ClassTable(("1", "0")).resolve([("", "1"), ("", "0")], by_name=True) == [0, 1]
    with pytest.raises(
        ManifestError, match=r"list.txt:1: the label '1' is the id of one class and the name of another"
    ):
        resolve(ClassTable(("1", "0")), "1", "0")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["1", "2", "3"], ["list.txt:3", "label 3 is out of range 0..2", "do labels start at 1?"]),
        (["0", "3"], ["list.txt:2", "label 3 is out of range 0..2", "belongs to this list"]),
        (["0", "-1"], ["list.txt:2", "label -1 is out of range 0..2"]),
        (["9" * 18], ["list.txt:1", "out of range"]),
        (["jump", "wlak"], ["list.txt:2", "'wlak'", "did you mean 'walk'?"]),
        (["jump", "1"], ["list.txt:2", "'1'", "throughout"]),
        (["1.0"], ["list.txt:1", "'1.0'", "write a whole number from 0 to 2"]),
        (["9" * 5000], ["list.txt:1"]),
    ],
)
def test_labels_that_name_no_class(labels, words):
    with pytest.raises(ManifestError) as caught:
        resolve(ClassTable(("jump", "walk", "RUN")), *labels)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.case("L3", "L4")
def test_51_of_51_is_out_of_range():
    with pytest.raises(ManifestError, match=r"list.txt:1: label 51 is out of range 0..50"):
        resolve(ClassTable(tuple(f"class {index}" for index in range(51))), "51")


def test_counting_from_one_by_the_class_file():
    with pytest.raises(ManifestError, match=r"list.txt:2: label 0 is out of range 1..2 .*counts from 1"):
        resolve(ClassTable(("a", "b"), first_id=1), "2", "0")


def test_a_loose_match_must_be_the_only_one():
    table = ClassTable(("Jump", "jump"))
    assert resolve(table, "jump", "Jump") == [1, 0]
    with pytest.raises(ManifestError, match=r"unknown class 'JUMP': it could be 'Jump' or 'jump'"):
        resolve(table, "JUMP")


@pytest.mark.parametrize(
    "wrong", [{"names": ()}, {"names": ("a", " ")}, {"names": ("a", "a")}, {"names": ("a",), "texts": ((), ())}]
)
def test_a_table_checks_itself(wrong):
    with pytest.raises(ManifestError):
        ClassTable(**wrong)


def test_unicode_has_two_forms_of_one_name() -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    assert resolve(ClassTable((composed, "bar")), apart, composed, "BAR", apart.upper()) == [0, 0, 1, 0]
    with pytest.raises(ManifestError, match=r"the classes 0 and 1 are called .* in two forms of Unicode"):
        ClassTable((composed, apart))


@pytest.mark.parametrize("label", ["1.0", "+1", "1.", "9" * 19, "9" * 5000, "１"])
def test_numbers_that_are_no_ids_are_refused_in_few_words(label: str) -> None:
    with pytest.raises(ManifestError, match=r"list.txt:2: unknown class ") as caught:
        resolve(ClassTable(("jump", "walk")), "0", label)
    assert len(str(caught.value)) < 300


def test_ids_with_leading_zeros_are_ids() -> None:
    assert resolve(ClassTable(("a", "b", "c")), "01", "000", "2") == [1, 0, 2]


@pytest.mark.case("L6")
@pytest.mark.parametrize("count", [1, 2, 3, 10, 400])
def test_any_number_of_classes_is_fine(count: int) -> None:
    table = ClassTable(tuple(f"class {index}" for index in range(count)))
    assert resolve(table, *map(str, range(count))) == list(range(count))
    with pytest.raises(ManifestError, match=rf"label {count} is out of range 0\.\.{count - 1} \({count} class"):
        resolve(table, str(count))
