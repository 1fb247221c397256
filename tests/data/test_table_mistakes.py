"""Tables of images: mistakes are named in one line."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import content_of, image_table, one_line
from table_cases import write

from ssah_jax.data.source import DataError

HEAD = "path,labels,part\n"


COLUMNS = "expected one each of path and labels, and perhaps part"


PARTS = "accepted are train, test, validation, database, unlabelled or nothing"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", f"{{0}}: found no columns 'path' (columns: none), {COLUMNS}"),
        (
            "file,labels\na.jpg,x\n",
            f"{{0}}: found no columns 'path' (columns: 'file', 'labels'), {COLUMNS}; "
            "call 'file' path",
        ),
        (
            "im/a.jpg,x\na.jpg,x\n",
            f"{{0}}: found no columns 'path' (columns: 'im/a.jpg', 'x'), {COLUMNS}; "
            "the first line is of an image: put a line path,labels above",
        ),
        (
            "path,tags\na.jpg,x\n",
            f"{{0}}: found no columns 'labels' (columns: 'path', 'tags'), {COLUMNS}; "
            "call 'tags' labels",
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
            "{0}:3: found 2 cells, expected 3, one for each column of the first line; "
            "an empty cell still needs its delimiter",
        ),
        (
            HEAD + "a.jpg,x,train,y\n",
            "{0}:2: found 4 cells, expected 3, one for each column of the first line; "
            "a value with a comma in it needs double quotes",
        ),
        (
            "path,labels\n0.jpg,sea\n1.jpg,'sea,sand'\n2.jpg,sand\n".replace("'", '"'),
            "{0}: found 'sea,sand' and no '|' in any cell of 'labels', but ',' in 1 of "
            "3, expected '|' between tags; data.separator=',' makes 2 classes instead "
            "of 3",
        ),
        (
            "path,labels\n0.jpg,haze\n1.jpg,haze road\n2.jpg,haze river\n"
            "3.jpg,road river\n4.jpg,road\n5.jpg,haze road river\n",
            "{0}: found 'haze road' and no '|' in any cell of 'labels', but ' ' in 4 "
            "of 6, expected '|' between tags; data.separator=' ' makes 3 classes "
            "instead of 6",
        ),
        (
            "path,labels\n0.jpg,Sea\n1.jpg,sea\n",
            "{0} column 'labels': found the class names 'Sea' and 'sea', which differ "
            "only in upper and lower case or blanks, expected one name for one class: "
            "rename one of them",
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
            HEAD + 'a.jpg,x,train\n"b\nb.jpg",y,test\nc.jpg,y,Tests\n',
            f"{{0}}:5: found the part 'Tests', {PARTS}",
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
            "{0}: found 1 classes in 2 rows, expected at least 2 in column 'labels'"
            "; data.labels=none takes all images as they are, without labels",
        ),
        (
            HEAD + "a.jpg,,\n",
            "{0}: found 0 classes in 1 rows, expected at least 2 in column 'labels'"
            "; data.labels=none takes all images as they are, without labels",
        ),
        (
            HEAD + 'a.jpg,x,\n"b.jpg,y,\nc.jpg,"y",\n',
            "{0}:3: found a row that cannot be parsed (',' expected after '\"'), "
            "expected cells with double quotes in pairs, if any; a double quote in "
            "line 3 closes only in line 4 or never",
        ),
        (
            HEAD + 'a.jpg,x,\n"b.jpg,y,\nc.jpg,y,\n',
            "{0}:3: found a row that cannot be parsed (unexpected end of data), "
            "expected cells with double quotes in pairs, if any; a double quote in "
            "line 3 closes only in line 4 or never",
        ),
        (
            HEAD + f"a.jpg,x,\nb.jpg,{'y' * 200_000},\n",
            "{0}:3: found a row that cannot be parsed (field larger than field limit "
            "(131072)), expected cells with double quotes in pairs, if any",
        ),
        (
            HEAD.encode() + b"a.jpg,x,\nb.jpg,caf\xe9,\n",
            "{0}:3: found the byte 0xe9 at offset 35 of the file, expected UTF-8 text; "
            "save it as UTF-8 (in Excel: CSV UTF-8)",
        ),
        (
            b"\xef\xbb\xbfpath,labels\n\xff.jpg,x,\n",
            "{0}:2: found the byte 0xff at offset 15 of the file, expected UTF-8 text; "
            "save it as UTF-8 (in Excel: CSV UTF-8)",
        ),
        (
            "path,labels\n".encode("utf-16-le") + b"\0\xd8",
            "{0}: found damaged UTF-16 text (unexpected end of data at offset 24), "
            "expected text; save it as UTF-8",
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
            f": found no columns 'labels' (columns: 'path', 'label'), {COLUMNS}; call "
            "'label' labels",
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
