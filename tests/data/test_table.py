"""Tables of images: everything that was written comes back."""

import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import content_of, image_table, one_line, picture, touch
from table_cases import write

from ssah_jax.data import table as table_lib
from ssah_jax.data.naming import folded
from ssah_jax.data.source import DataError

LABELLED_PARTS = ("train", "test", "database")


# Not "\r": Python's writer did not always put it in quotes.
words = st.text(
    st.characters(codec="utf-8", exclude_characters="|\0/\r"), min_size=1, max_size=6
).filter(lambda word: word == word.strip() and word not in (".", ".."))

# Of one case, and without what would be another separator between tags.
tag_words = st.text("abcdéß中-_'\"", min_size=1, max_size=6)


@st.composite
def tables(draw):
    """Rows of a path, tags and a part, with at least two tags among them."""
    tags = draw(st.lists(tag_words, min_size=2, max_size=4, unique_by=folded))
    parts = draw(st.sampled_from([("",), LABELLED_PARTS]))
    sets = st.sets(st.sampled_from(tags), max_size=draw(st.integers(1, 3)))
    others = [
        (f"d{draw(words)}/{index}.png", draw(sets))
        for index in range(draw(st.integers(0, 5)))
    ]
    labelled = [(f"{index}.png", {tag}) for index, tag in enumerate(tags)]
    rows = []
    for path, of_row in draw(st.permutations(labelled + others)):
        accepted = parts if of_row else ("", "train", "unlabelled", "unlabeled")
        rows.append((path, of_row, draw(st.sampled_from(accepted))))
    return rows


def expected_content(rows):
    content = {}
    for path, tags, part in rows:
        part = (part or "all") if tags else "unlabelled"
        content.setdefault(part, {})[path] = tags
    return content


def check(source, rows):
    assert content_of(source) == expected_content(rows)
    assert list(source.images.names) == [path for path, _, _ in rows]
    assert list(source.class_names) == sorted(
        {tag for _, tags, _ in rows for tag in tags}
    )
    assert source.multi_label == any(len(tags) > 1 for _, tags, _ in rows)
    assert source.missing == ()


@pytest.mark.slow
@settings(deadline=None)
@given(tables(), st.data())
def test_text_says_what_was_written(tmp_path_factory, rows, data):
    directory = tmp_path_factory.mktemp("text")
    touch(directory, *(path for path, _, _ in rows))
    suffix, delimiter = data.draw(st.sampled_from([(".csv", ","), (".TSV", "\t")]))
    columns = data.draw(st.permutations(["path", "labels", "part", "other"]))
    if not any(part for _, _, part in rows) and data.draw(st.booleans()):
        columns.remove("part")
    separator = data.draw(st.sampled_from(["|", " | ", "||"]))
    text = io.StringIO()
    writer = csv.writer(
        text,
        delimiter=delimiter,
        lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])),
        quoting=data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    writer.writerow(columns)
    for path, tags, part in rows:
        joined = separator.join(data.draw(st.permutations(sorted(tags))))
        row = {"path": path, "labels": joined, "part": part, "other": "x|y"}
        writer.writerow([row[column] for column in columns])
        if data.draw(st.booleans()):
            writer.writerow(data.draw(st.sampled_from([[], [""] * len(columns)])))
    file = directory / f"table{suffix}"
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig"]))
    file.write_bytes(text.getvalue().encode(encoding))

    check(image_table(file), rows)


@pytest.mark.slow
@settings(deadline=None)
@given(tables(), st.data())
def test_parquet_says_what_was_written(tmp_path_factory, rows, data):
    directory = tmp_path_factory.mktemp("parquet")
    touch(directory, *(path for path, _, _ in rows))
    text = data.draw(
        st.sampled_from(
            [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
        )
    )
    lists = data.draw(
        st.sampled_from([None, pa.list_(pa.string()), pa.large_list(pa.string())])
    )
    null = data.draw(st.sampled_from(["", None]))
    labels = [sorted(tags) for _, tags, _ in rows]
    if lists is None:
        labels = ["|".join(tags) or null for tags in labels]
    else:
        labels = [(tags and [*tags, null]) or None for tags in labels]
    columns = {
        "other": pa.array([b"\xff"] * len(rows)),
        "labels": pa.array(labels, lists or text),
        "path": pa.array([path for path, _, _ in rows], pa.string()),
    }
    parts = [part or null for _, _, part in rows]
    if any(parts) or data.draw(st.booleans()):
        columns["part"] = pa.array(parts, text if any(parts) else None)
    file = directory / "table.parquet"
    pq.write_table(pa.table(columns), file)

    check(image_table(file), rows)


def test_images_are_decoded(tmp_path):
    colours = {"red.png": (255, 0, 0), "green.png": (0, 255, 0)}
    (tmp_path / "store").mkdir()
    for name, colour in colours.items():
        picture(colour).save(tmp_path / "store" / name)
    (tmp_path / "tables").mkdir()
    file = tmp_path / "tables" / "table.csv"
    file.write_text(
        f"path,labels\ngreen.png,green\n{tmp_path}/store/../store/red.png,red\n"
    )
    source = image_table(file, images="../store")
    assert source.image_shape == (4, 4, 3)
    assert source.class_names == ("green", "red")
    np.testing.assert_array_equal(source.labels, np.eye(2))
    for index, name in enumerate(["green.png", "red.png"]):
        expected = np.broadcast_to(np.array(colours[name], np.uint8), (4, 4, 3))
        np.testing.assert_array_equal(source.images[index], expected)
    stored = table_lib.image_table(file, images=str(tmp_path / "store"), channels=1)
    assert stored.images.shape == (2, 6, 16, 1)
    squashed = image_table(file, images="../store", size=2, resize="squash")
    assert squashed.images.shape == (2, 2, 2, 3)
    assert np.all(squashed.images[0][:, 0, 2])


def test_tags_are_stripped_and_counted_once(tmp_path):
    file = write(
        tmp_path,
        " path ,labels\na.jpg, cat;; dog ;cat;\n b.jpg ,a|b\nc.jpg, ; \n",
    )
    source = image_table(file, separator=";")
    assert source.class_names == ("a|b", "cat", "dog")
    assert content_of(source) == {
        "all": {"a.jpg": {"cat", "dog"}, "b.jpg": {"a|b"}},
        "unlabelled": {"c.jpg": set()},
    }


def test_columns_without_a_name_and_lines_within_cells(tmp_path):
    # The index that pandas writes has no name.
    file = write(tmp_path, ',labels,path,\r\n0,"x\r\ny",a.jpg,\r\n1,"z",b.jpg,\r\n')
    touch(tmp_path, "a.jpg", "b.jpg")
    assert content_of(image_table(file)) == {
        "all": {"a.jpg": {"x\r\ny"}, "b.jpg": {"z"}}
    }


def test_lists_are_not_split(tmp_path):
    touch(tmp_path, "a.jpg")
    columns = {"path": ["a.jpg"], "labels": [[" x|y", "z ", "z"]]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    source = image_table(tmp_path / "t.parquet")
    assert source.class_names == ("x|y", "z")
    np.testing.assert_array_equal(source.labels, [[1, 1]])


@pytest.mark.parametrize(
    ("labels", "asked", "found"),
    [
        (("x", "y"), None, False),
        (("x", "y"), False, False),
        (("x", "y"), True, True),
        (("x|y", "y"), None, True),
        (("x|y", "y"), True, True),
        (("x|x", "y"), False, False),
    ],
)
def test_multi_label(tmp_path, labels, asked, found):
    file = write(tmp_path, f"path,labels\na.jpg,{labels[0]}\nb.jpg,{labels[1]}\n")
    assert image_table(file, multi_label=asked).multi_label is found


def test_several_tags_where_one_is_asked_for(tmp_path):
    file = write(tmp_path, "path,labels\na.jpg,x\n\nb.jpg,y|x\nc.jpg,x|y\n")
    with pytest.raises(DataError) as error:
        image_table(file, multi_label=False)
    assert one_line(error) == (
        f"{file}:4: found the labels y, x, expected one label (or multi_label=True)"
    )


def test_a_table_without_labels_needs_paths_alone(tmp_path):
    write(tmp_path, "path\na.jpg\nb.jpg\n")
    text = "path,labels,part\nb.jpg,x|y,test\na.jpg,,\n"
    labelled = write(tmp_path, text, name="all.csv")
    pq.write_table(pa.table({"path": ["b.jpg", "a.jpg"]}), tmp_path / "t.parquet")
    for file in (tmp_path / "table.csv", labelled, tmp_path / "t.parquet"):
        source = image_table(file, labels="none")
        assert content_of(source)["unlabelled"] == {"a.jpg": set(), "b.jpg": set()}
        assert (source.class_names, source.labels.shape) == ((), (2, 0))
    with pytest.raises(DataError, match=r"columns 'path' .*, expected one path"):
        image_table(write(tmp_path, "name\na.jpg\n"), labels="none")
