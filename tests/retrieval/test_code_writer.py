"""Writing codes: resumed, killed, one writer at a time, nothing overwritten unasked."""

import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from code_cases import codes_of, write
from image_files import one_line

from ssah_jax import retrieval
from ssah_jax.retrieval import CodeFileError, CodeWriter, read_codes


def test_an_exception_leaves_rows_to_the_next_writer(tmp_path):
    path, codes = tmp_path / "codes.parquet", codes_of(5)
    with pytest.raises(RuntimeError), CodeWriter(path, bits=12, fingerprint="f") as w:
        w.write(["a", "b"], codes[:2], [["x"], ["y"]])
        raise RuntimeError
    assert not path.exists()
    with CodeWriter(path, bits=12, fingerprint="f") as writer:
        assert list(writer.done) == ["a", "b"]
        with pytest.raises(CodeFileError, match="the id 'b' twice"):
            writer.write(["c", "b"], codes[:2])
        writer.write(["c"], codes[2:3])
    write(path, ["d", "e"], codes[3:])
    found = read_codes(path)
    assert found.ids == ("a", "b", "c", "d", "e")
    np.testing.assert_array_equal(found.packed, retrieval.pack(codes))
    assert found.labels == (("x",), ("y",), (), (), ())


def test_resume_false_begins_again(tmp_path):
    path = tmp_path / "codes.parquet"
    with CodeWriter(path, bits=12, fingerprint="old") as writer:
        writer.write(["a"], codes_of(1))
    write(path, ["b"], codes_of(1, 24), resume=False)
    assert read_codes(path).ids == ("b",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 12, "fingerprint": "new"}, "fingerprint old, expected new"),
        ({"bits": 16, "fingerprint": "old"}, "bits 12, expected 16"),
    ],
)
def test_rows_of_another_model_are_refused(tmp_path, options, message):
    path = tmp_path / "codes.parquet"
    with CodeWriter(path, bits=12, fingerprint="old") as writer:
        writer.write(["a"], codes_of(1))
    with pytest.raises(CodeFileError, match=message) as error:
        CodeWriter(path, **options)
    parts = tmp_path / ".codes.parquet.parts"
    assert f"delete {parts}" in one_line(error)
    # The refusal has cost nothing.
    assert list(CodeWriter(path, bits=12, fingerprint="old").done) == ["a"]
    next(parts.glob("part-*")).write_bytes(b"torn")
    with pytest.raises(CodeFileError, match=f"delete {parts}") as error:
        CodeWriter(path, bits=12, fingerprint="old")
    one_line(error)


def test_files_are_not_overwritten_unasked(tmp_path):
    path = tmp_path / "codes.parquet"
    write(path, ["a"], codes_of(1))
    with pytest.raises(CodeFileError, match="found a file, expected none"):
        CodeWriter(path, bits=12, fingerprint="f")
    write(path, ["b"], codes_of(1), overwrite=True)
    assert read_codes(path).ids == ("b",)
    with pytest.raises(CodeFileError, match="found a directory"):
        CodeWriter(tmp_path, bits=12, fingerprint="f", overwrite=True)
    late = CodeWriter(tmp_path / "late.parquet", bits=12, fingerprint="f")
    (tmp_path / "late.parquet").write_text("somebody else's")
    with pytest.raises(CodeFileError, match="found a file"):
        late.finish()
    assert (tmp_path / "late.parquet").read_text() == "somebody else's"
    with pytest.raises(CodeFileError, match=r"gone.*No such file") as error:
        CodeWriter(tmp_path / "gone" / "codes.parquet", bits=12, fingerprint="f")
    one_line(error)


def test_parts_of_a_finished_file_are_not_taken_for_new_ones(tmp_path):
    path, parts = tmp_path / "codes.parquet", tmp_path / ".codes.parquet.parts"
    with CodeWriter(path, bits=12, fingerprint="f") as writer:
        writer.write(["a"], codes_of(1))
    kept = {p.name: p.read_bytes() for p in parts.iterdir()}
    with CodeWriter(path, bits=12, fingerprint="f") as writer:
        writer.finish()
    # As a kill between the last two steps of `finish` leaves it.
    parts.mkdir()
    for name, content in kept.items():
        (parts / name).write_bytes(content)
    codes = codes_of(1)
    write(path, ["a"], codes, overwrite=True)
    np.testing.assert_array_equal(read_codes(path).packed, retrieval.pack(codes))


def test_a_second_writer_is_noticed(tmp_path):
    path = tmp_path / "codes.parquet"
    first = CodeWriter(path, bits=12, fingerprint="f", part_rows=1)
    second = CodeWriter(path, bits=12, fingerprint="f", part_rows=1)
    first.write(["a"], codes_of(1))
    with pytest.raises(CodeFileError, match="one writer at a time"):
        second.write(["b"], codes_of(1))


KILLED = """
    import sys
    import numpy as np
    from ssah_jax.retrieval import CodeWriter
    writer = CodeWriter(sys.argv[1], bits=12, fingerprint="f", part_rows=4)
    start = len(writer.done)
    codes = np.random.default_rng(0).normal(size=(100_000, 12))
    for row in range(start, len(codes)):
        writer.write([str(row)], codes[row : row + 1])
        if row == start + 8:
            print("ready", flush=True)
"""


@pytest.mark.slow
def test_a_kill_loses_at_most_the_part_in_progress(tmp_path):
    path = tmp_path / "codes.parquet"
    before = 0
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(path)],
            stdout=subprocess.PIPE,
        )
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert not path.exists()
        with CodeWriter(path, bits=12, fingerprint="f") as writer:
            after = len(writer.done)
            assert list(writer.done) == [str(row) for row in range(after)]
        assert after > before and after % 4 == 0
        before = after
    with CodeWriter(path, bits=12, fingerprint="f") as writer:
        writer.finish()
    codes = np.random.default_rng(0).normal(size=(100_000, 12))[:before]
    np.testing.assert_array_equal(read_codes(path).packed, retrieval.pack(codes))


def test_codes_that_are_none(tmp_path):
    with CodeWriter(tmp_path / "c", bits=12, fingerprint="f") as writer:
        codes = codes_of(3)
        codes[1, 11] = np.nan
        with pytest.raises(CodeFileError, match="NaN in 'b'"):
            writer.write(["a", "b", "c"], codes)
        with pytest.raises(
            ValueError, match=r"shape \(3, 16\), accepted is \[rows, 12"
        ):
            writer.write(["a", "b", "c"], codes_of(3, 16))
        with pytest.raises(ValueError, match="dtype uint8"):
            writer.write(["a"], np.ones((1, 12), np.uint8))
        with pytest.raises(ValueError, match="2, 3, 2 and 2 rows"):
            writer.write(["a", "b"], codes_of(3))
        with pytest.raises(ValueError, match="1, 1, 2 and 1 rows"):
            writer.write(["a"], codes_of(1), [None, None])
        with pytest.raises(CodeFileError, match="'a' twice"):
            writer.write(["a", "a"], codes_of(2))
        assert not writer.done
    for options in ({"bits": 0}, {"bits": 12, "part_rows": 0}):
        with pytest.raises(ValueError, match="found 0, accepted is a number >= 1"):
            CodeWriter(tmp_path / "d", fingerprint="f", **options)
