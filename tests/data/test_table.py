"""Tables of images: everything that was written comes back, mistakes are named."""

import csv
import functools
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ssah_jax.data import table as table_lib
from ssah_jax.data.source import DataError

# Most files here are empty. On Python 3.11 the type checker asks the images for their
# shape, which needs a file to be decoded unless a size is given.
image_table = functools.partial(table_lib.image_table, size=4)

LABELLED_PARTS = ("train", "test", "database")


def touch(directory, names):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def picture(colour):
    """Of 16 x 6 pixels, with a blue left edge that the centre square lacks."""
    image = Image.new("RGB", (16, 6), colour)
    image.paste((0, 0, 255), (0, 0, 2, 6))
    return image


def one_line(error):
    text = str(error.value)
    assert text.isprintable()
    return text


def content_of(source):
    """For each part, its images with the names of their classes."""
    return {
        part: {
            source.images.names[index]: {
                source.class_names[c] for c in np.flatnonzero(source.labels[index])
            }
            for index in indices
        }
        for part, indices in source.parts.items()
    }


# Not "\r": Python's writer did not always put it in quotes.
words = st.text(
    st.characters(codec="utf-8", exclude_characters="|\0/\r"), min_size=1, max_size=6
).filter(lambda word: word == word.strip() and word not in (".", ".."))


@st.composite
def tables(draw):
    """Rows of a path, tags and a part, with at least two tags among them."""
    tags = draw(st.lists(words, min_size=2, max_size=4, unique=True))
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


@settings(deadline=None)
@given(tables(), st.data())
def test_text_says_what_was_written(tmp_path_factory, rows, data):
    directory = tmp_path_factory.mktemp("text")
    touch(directory, [path for path, _, _ in rows])
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


@settings(deadline=None)
@given(tables(), st.data())
def test_parquet_says_what_was_written(tmp_path_factory, rows, data):
    directory = tmp_path_factory.mktemp("parquet")
    touch(directory, [path for path, _, _ in rows])
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


def write(directory, text, *, name="table.csv"):
    """A table, and empty files for the first cell of all lines but the first."""
    file = directory / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    for line in file.read_bytes().split(b"\n")[1:]:
        first = line.split(b",")[0].strip(b' "\r').decode(errors="ignore")
        if first.endswith(".jpg"):
            touch(directory, [first])
    return file


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
    touch(tmp_path, ["a.jpg", "b.jpg"])
    assert content_of(image_table(file)) == {
        "all": {"a.jpg": {"x\r\ny"}, "b.jpg": {"z"}}
    }


def test_lists_are_not_split(tmp_path):
    touch(tmp_path, ["a.jpg"])
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


HEAD = "path,labels,part\n"
COLUMNS = "expected one each of path and labels, and perhaps part"
PARTS = "accepted are train, test, database, unlabelled or nothing"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", f"{{0}}: found no columns 'path' (columns: none), {COLUMNS}"),
        (
            "file,labels\na.jpg,x\n",
            f"{{0}}: found no columns 'path' (columns: 'file', 'labels'), {COLUMNS}",
        ),
        (
            "path;labels\na.jpg;x\n",
            f"{{0}}: found no columns 'path' (columns: 'path;labels'), {COLUMNS}",
        ),
        (
            "path,tags\na.jpg,x\n",
            f"{{0}}: found no columns 'labels' (columns: 'path', 'tags'), {COLUMNS}",
        ),
        (
            "path,labels,labels\na.jpg,x,y\n",
            "{0}: found 2 columns 'labels' (columns: 'path', 'labels', 'labels'), "
            + COLUMNS,
        ),
        (
            "part,path,labels,part\n,a.jpg,x,y\n",
            "{0}: found 2 columns 'part' (columns: 'part', 'path', 'labels', 'part'), "
            + COLUMNS,
        ),
        (HEAD + "\n\n,,\n", "{0}: found no rows, expected one for each image"),
        (
            HEAD + "a.jpg,x,\nb.jpg,y\n",
            "{0}:3: found 2 cells, expected 3, one for each column of the first line",
        ),
        (
            HEAD + "a.jpg,x,y,\n",
            "{0}:2: found 4 cells, expected 3, one for each column of the first line",
        ),
        (
            HEAD + "a.jpg,x,\n  ,y,\n",
            "{0}:3: found an empty path, expected an image",
        ),
        (
            HEAD + "a.jpg,x,\nb.jpg,y,\n\n a.jpg,y,\n",
            "{0}:5: found 'a.jpg' as in {0}:2, expected each image once",
        ),
        (
            HEAD + 'a.jpg,x,\n"b\nb.jpg",y,\nc.jpg,y,Test\n',
            f"{{0}}:5: found the part 'Test', {PARTS}",
        ),
        (HEAD + "a.jpg,x,all\n", f"{{0}}:2: found the part 'all', {PARTS}"),
        (
            HEAD + "a.jpg,x|y,unlabelled\n",
            "{0}:2: found the labels x, y in part unlabelled, expected none",
        ),
        (
            HEAD + "a.jpg,x|y,unlabeled\n",
            "{0}:2: found the labels x, y in part unlabelled, expected none",
        ),
        (
            HEAD + "a.jpg,x|y,train\nb.jpg,,test\n",
            "{0}:3: found no labels in part test, expected at least one",
        ),
        (
            HEAD + "a.jpg,|,database\n",
            "{0}:2: found no labels in part database, expected at least one",
        ),
        (
            HEAD + "a.jpg,x,train\nb.jpg,,\nc.jpg,y,\n",
            "{0}:4: found an empty part, but 'train' in {0}:2, expected a part for all "
            "labelled images or for none",
        ),
        (
            HEAD + "a.jpg,x,\nb.jpg,y,test\n",
            "{0}:2: found an empty part, but 'test' in {0}:3, expected a part for all "
            "labelled images or for none",
        ),
        (
            HEAD + "a.jpg,x,\nb.jpg,x,\n",
            "{0}: found 1 classes in 2 rows, expected at least 2 in column 'labels'",
        ),
        (
            HEAD + "a.jpg,,\n",
            "{0}: found 0 classes in 1 rows, expected at least 2 in column 'labels'",
        ),
        (
            HEAD + 'a.jpg,x,\n"b.jpg,y,\nc.jpg,"y",\n',
            "{0}:3: found a row that cannot be parsed (',' expected after '\"'), "
            "expected cells with double quotes in pairs, if any",
        ),
        (
            HEAD + 'a.jpg,x,\n"b.jpg,y,\nc.jpg,y,\n',
            "{0}:3: found a row that cannot be parsed (unexpected end of data), "
            "expected cells with double quotes in pairs, if any",
        ),
        (
            HEAD + f"a.jpg,x,\nb.jpg,{'y' * 200_000},\n",
            "{0}:3: found a row that cannot be parsed (field larger than field limit "
            "(131072)), expected cells with double quotes in pairs, if any",
        ),
        (
            HEAD.encode() + b"a.jpg,x,\nb.jpg,caf\xe9,\n",
            "{0}:3: found the byte 0xe9 at offset 35 of the file, expected UTF-8 text",
        ),
        (
            b"\xef\xbb\xbfpath,labels\n\xff.jpg,x,\n",
            "{0}:2: found the byte 0xff at offset 15 of the file, expected UTF-8 text",
        ),
        (
            "path,labels\n".encode("utf-16"),
            "{0}:1: found the byte 0xff at offset 0 of the file, expected UTF-8 text",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, text, expected):
    file = write(tmp_path, text)
    with pytest.raises(DataError) as error:
        image_table(file)
    assert one_line(error) == expected.format(file)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"path": ["a.jpg"], "label": ["x"]},
            f": found no columns 'labels' (columns: 'path', 'label'), {COLUMNS}",
        ),
        (
            {"path": [1], "labels": ["x"]},
            ": found int64 in column 'path', expected strings",
        ),
        (
            {"path": [["a.jpg"]], "labels": ["x"]},
            ": found list<element: string> in column 'path', expected strings",
        ),
        (
            {"path": ["a.jpg"], "labels": [3]},
            ": found int64 in column 'labels', expected strings or lists of strings",
        ),
        (
            {"path": ["a.jpg"], "labels": [[3]]},
            ": found list<element: int64> in column 'labels', expected strings or "
            "lists of strings",
        ),
        (
            {"path": ["a.jpg"], "labels": ["x"], "part": [True]},
            ": found bool in column 'part', expected strings",
        ),
        (
            {"path": ["a.jpg", "b.jpg", "a.jpg"], "labels": [["x"], ["y"], None]},
            " row 3: found 'a.jpg' as in {0} row 1, expected each image once",
        ),
        (
            {"path": ["a.jpg", None], "labels": ["x", "y"]},
            " row 2: found an empty path, expected an image",
        ),
        (
            {"path": pa.array([], pa.string()), "labels": pa.array([], pa.string())},
            ": found no rows, expected one for each image",
        ),
    ],
)
def test_mistakes_in_parquet_are_named(tmp_path, columns, expected):
    file = tmp_path / "table.parquet"
    pq.write_table(pa.table(columns), file)
    with pytest.raises(DataError) as error:
        image_table(file)
    assert one_line(error) == f"{file}{expected.format(file)}"


def test_files_that_are_no_tables(tmp_path):
    file = tmp_path / "no\nne.csv"
    with pytest.raises(DataError) as error:
        image_table(file)
    assert one_line(error) == (
        f"{tmp_path}/no\\nne.csv: found No such file or directory, expected a readable "
        "file"
    )
    with pytest.raises(DataError) as error:
        image_table(tmp_path / "none.parquet")
    assert one_line(error) == (
        f"{tmp_path}/none.parquet: found no table that can be read (No such file or "
        "directory), expected a Parquet file"
    )
    for content in (b"", b"path,labels\na.jpg,x\n", b"PAR1" + bytes(100) + b"PAR1"):
        (tmp_path / "text.parquet").write_bytes(content)
        with pytest.raises(DataError) as error:
            image_table(tmp_path / "text.parquet")
        assert one_line(error).startswith(
            f"{tmp_path}/text.parquet: found no table that can be read ("
        )
    with pytest.raises(DataError) as error:
        image_table(tmp_path / "table.xlsx")
    assert one_line(error) == (
        f"{tmp_path}/table.xlsx: found the suffix '.xlsx', accepted are .csv, .tsv, "
        ".parquet"
    )


def test_a_damaged_parquet_file(tmp_path):
    file = tmp_path / "t.parquet"
    rows = [f"{index}.jpg" for index in range(1000)]
    pq.write_table(pa.table({"path": rows, "labels": rows}), file)
    content = bytearray(file.read_bytes())
    content[4:400] = bytes(396)
    file.write_bytes(content)
    with pytest.raises(DataError) as error:
        image_table(file)
    assert one_line(error).startswith(f"{file}: found no table that can be read (")


def test_no_separator(tmp_path):
    with pytest.raises(ValueError) as error:
        image_table(write(tmp_path, HEAD), separator="")
    assert one_line(error) == (
        "separator: found none, expected what stands between labels"
    )


def test_no_folder_of_images(tmp_path):
    file = write(tmp_path, "path,labels\na.jpg,x\nb.jpg,y\n")
    with pytest.raises(DataError) as error:
        image_table(file, images="photos")
    assert one_line(error) == (
        f"{tmp_path}/photos: found no such folder, expected that of the images"
    )


def test_missing_images(tmp_path):
    file = write(
        tmp_path,
        "path,labels,part\na.jpg,x,train\nb.png,y,train\nc.jpg,y,test\nd.jpg,,\n",
    )
    with pytest.raises(DataError) as error:
        image_table(file)
    assert one_line(error) == (
        f"{file}: found 1 of 4 listed images missing (first b.png), accepted is a "
        "share of at most 0.0"
    )
    source = image_table(file, max_missing=0.25)
    assert source.missing == ("b.png",)
    assert content_of(source) == {
        "train": {"a.jpg": {"x"}},
        "test": {"c.jpg": {"y"}},
        "unlabelled": {"d.jpg": set()},
    }
