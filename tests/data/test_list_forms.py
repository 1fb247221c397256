"""Lists of class numbers, in UTF-16, alone, and with queries in the database."""

import functools

import pytest
from image_files import content_of, image_lists, one_line
from list_cases import write

from ssah_jax.data import make_split, split_from_json, split_to_json
from ssah_jax.data.source import DataError


def test_numbers_of_classes(tmp_path):
    write(
        tmp_path,
        train="a b.jpg 3\nb.jpg\t10\n",
        test="c.jpg 3\n",
        database="d.jpg 7\nb.jpg 10",
        unlabelled="e.jpg",
        files=["a b.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"],
    )
    source = image_lists(tmp_path)
    assert source.class_names == ("3", "7", "10")
    assert not source.multi_label
    assert content_of(source) == {
        "train": {"a b.jpg": {"3"}, "b.jpg": {"10"}},
        "test": {"c.jpg": {"3"}},
        "database": {"d.jpg": {"7"}, "b.jpg": {"10"}},
        "unlabelled": {"e.jpg": set()},
    }
    assert source.notes == ("numbers behind paths taken for classes",)


def test_whether_images_show_several_classes_may_be_asked_for(tmp_path):
    write(tmp_path, train="a 0 1", test="b 1 0\nc 0 0")
    assert image_lists(tmp_path, multi_label=True).multi_label
    write(tmp_path, train="a 0 1", test="b 1 1\nc 1 1")
    with pytest.raises(DataError) as error:
        image_lists(tmp_path, multi_label=False)
    assert one_line(error) == (
        "test.txt:1: found 2 labels (and several in 2 lines), expected one label, or "
        "data.multi_label=True"
    )


def test_one_list_and_utf16(tmp_path):
    content = "a.jpg 0 1\r\nb\xe9.jpg 1 0\r\n"
    write(tmp_path, test=content.encode("utf-16"), files=["a.jpg", "b\xe9.jpg"])
    source = image_lists(tmp_path)
    assert content_of(source) == {"test": {"a.jpg": {"1"}, "b\xe9.jpg": {"0"}}}
    assert source.notes == (f"{tmp_path}/test.txt in UTF-16",)


def test_queries_in_the_database_are_named_by_lines_and_can_be_dropped(tmp_path):
    train = "a.jpg 0 1\nb.jpg 1 0\n"
    database = train + "".join(f"{c}.jpg 0 1\n" for c in "cdefgh")
    write(
        tmp_path,
        train=train,
        test="x.jpg 1 0\n./a.jpg 0 1\n" + "".join(f"{c}.jpg 0 1\n" for c in "cde"),
        database=database,
    )
    source = image_lists(tmp_path)
    draw = functools.partial(
        make_split,
        source,
        protocol="listed",
        labels_per_class=0,
        num_queries=0,
        num_validation=0,
        seed=0,
    )
    with pytest.raises(ValueError) as error:
        draw()
    assert one_line(error) == (
        "split: found 4 images in both query and database: image 0 'a.jpg' "
        "(train.txt:1, database.txt:1, test.txt:2), image 3 'c.jpg' (test.txt:3, "
        "database.txt:3), image 4 'd.jpg' (test.txt:4, database.txt:4) and 1 more, "
        "expected none; data.on_leak=drop takes them out of the database and of "
        "training"
    )
    split = draw(on_leak="drop")
    assert split.num_leaks == 4
    named = {
        role: [source.names[i] for i in getattr(split, role)]
        for role in ("query", "labelled", "database")
    }
    assert named == {
        "query": ["a.jpg", "x.jpg", "c.jpg", "d.jpg", "e.jpg"],
        "labelled": ["b.jpg"],
        "database": ["b.jpg", "f.jpg", "g.jpg", "h.jpg"],
    }
    assert split_from_json(split_to_json(split)).num_leaks == 4
