"""Tables as spreadsheets, Windows and Python write them."""

import shutil

import pytest
from image_files import content_of, image_table, one_line, touch
from table_cases import write

from ssah_jax.data.source import DataError

TAGS = ["sea", "sand|sea", "sand"]


def sheet(delimiter=",", name="im/{}.jpg"):
    lines = [f"{name.format(i)}{delimiter}{tags}" for i, tags in enumerate(TAGS)]
    return "\r\n".join([f"Path{delimiter}LABELS", *lines, ""])


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (sheet().encode("utf-16"), "text in UTF-16"),
        (sheet().encode("utf-16-be"), "text in UTF-16"),
        (sheet().encode("utf-16-le"), "text in UTF-16"),
        (sheet().encode("utf-8-sig"), None),
        (b"sep=;\r\n" + sheet(";").encode(), "a first line sep=;"),
        (b'\xef\xbb\xbf"SEP=\t"\n' + sheet("\t").encode(), "a first line sep=\t"),
        (sheet(";").encode(), "a semicolon for a comma between columns"),
        (sheet("\t").encode(), "a tab for a comma between columns"),
        (sheet().replace("\r", ",,\r").replace(",,", "", 1).encode(), "3 rows with"),
        (sheet(name="im\\{}.jpg").encode(), "3 paths with / for \\"),
        (sheet(name="IM/{}.JPG").encode(), "3 paths spelled as on the disk"),
        (sheet(name="./im//{}.jpg").encode(), None),
    ],
)
def test_what_excel_and_windows_make_of_a_table_is_understood(tmp_path, content, note):
    touch(tmp_path, "im/0.jpg", "im/1.jpg", "im/2.jpg")
    (tmp_path / "t.csv").write_bytes(content)
    source = image_table(tmp_path / "t.csv")
    assert content_of(source) == {
        "all": {"im/0.jpg": {"sea"}, "im/1.jpg": {"sand", "sea"}, "im/2.jpg": {"sand"}}
    }
    assert [n.startswith(note) for n in source.notes] == ([True] if note else [])


def test_tags_as_python_and_json_write_lists(tmp_path):
    file = write(
        tmp_path,
        'path,labels\na.jpg,"[\'sea\', \'it\'\'s\']"\nb.jpg,"[""sea""]"\nc.jpg,[]\n',
    )
    assert content_of(image_table(file)) == {
        "all": {"a.jpg": {"sea", "its"}, "b.jpg": {"sea"}},
        "unlabelled": {"c.jpg": set()},
    }


def test_names_with_a_comma_are_names(tmp_path):
    cities = '"Paris, France"', '"Rome, Italy"', '"Paris, Texas"', '"Nice, France"'
    rows = "".join(f"{i}.jpg,{city}\n" for i, city in enumerate(cities))
    source = image_table(write(tmp_path, "path,labels\n" + rows))
    assert source.num_classes == 4
    with pytest.raises(DataError, match="but ',' in 4 of 4"):
        image_table(tmp_path / "table.csv", multi_label=True)


def test_two_paths_of_one_file(tmp_path):
    file = write(tmp_path, "path,labels\na.jpg,x\nb.jpg,y\n")
    text = file.read_text() + f"./a.jpg,x\n{tmp_path}/b.jpg,\nlink.jpg,x\n"
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    file.write_text(text)
    source = image_table(file)
    assert content_of(source) == {"all": {"a.jpg": {"x"}, "b.jpg": {"y"}}}
    assert source.notes == ("3 further names of the same files",)
    assert source.describe(1) == f"image 1 'b.jpg' ({file}:3, {file}:5)"
    file.write_text(text.replace("link.jpg,x", "link.jpg,y"))
    with pytest.raises(DataError) as error:
        image_table(file)
    assert one_line(error) == (
        f"{file}: found one file by two names, a.jpg ({file}:2) and link.jpg ({file}:6)"
        ", with other labels by the second, expected one of them or the same labels"
    )


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("im/a.jpg", "; a.jpg lies directly in {0}"),
        ("/near/a.jpg", "; near/a.jpg is there, without the slash in front"),
        ("no/b.jpg", "; there is no folder {0}/no: data.images says which one paths "),
        ("a.jpeg", "; a.jpg is there"),
        ("a", "; a.jpg is there"),
        ("C:\\im\\a.jpg", ", which is a path of Windows; make paths relative to"),
        ("gone.jpg", "), accepted"),
    ],
)
def test_why_images_are_missing(tmp_path, path, why):
    file = write(tmp_path, "path,labels\na.jpg,y\n")
    file.write_text(f"path,labels\n{path},x\na.jpg,y\n")
    (tmp_path / "near").mkdir()
    shutil.copy(tmp_path / "a.jpg", tmp_path / "near")
    with pytest.raises(DataError) as error:
        image_table(file)
    assert why.format(tmp_path) in one_line(error)
