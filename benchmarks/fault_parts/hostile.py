"""Files and names made by somebody who means harm: nothing runs, nothing leaves."""

import argparse
import gzip
import io
import json
import os
import re
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fault_parts.children import TRAIN, Child, ssah
from fault_parts.scenes import commands, photos, trained

_MEMORY = 3 << 30
"""Bytes beyond what a process has, that whatever it opens must be content with."""

NAMES = (
    "<script>document.title='ran'</script>",
    "<img src=x onerror=document.title='ran'>",
    "'onmouseover='document.title=1'",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:document.title='ran'",
)


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Each trick with the command that would meet it."""
    work = trained(folder / "run")
    known = commands(folder, work, photos(folder / "photos", 40))
    tricks: dict[str, Callable[..., dict[str, Any]]] = {
        "pickle in a .pth": _pickle,
        "decompression bombs": _bombs,
        "../ in a list and a table": _parents,
        "archive given to prepare": _archive,
        "symlink out of the folder": _links,
        "script in names, in Chromium": _pages,
        "10^12 rows": _claims,
    }
    pieces = {}
    for name, trick in tricks.items():
        if options.only and not any(word in name for word in options.only):
            continue
        place = folder / re.sub(r"\W+", "_", name)
        place.mkdir()
        pieces[name] = trick(place, folder, work, known)
        print(name, pieces[name], flush=True)
    return pieces


def _said(ended: Any) -> str:
    lines = (ended.err or ended.out).strip().splitlines()
    return re.sub(r"/\S*/faults-\w+", "DIR", lines[-1])[:250] if lines else ""


def _pickle(place: Path, folder: Path, work: Path, known: Any) -> dict[str, Any]:
    """What would make a file, in both formats, by every name that could run it."""
    import torch_writers
    import weight_files

    tried, faults, said = 0, [], ""
    mark = place / "ran"
    for name, thing in weight_files.EVIL.items():
        evil = weight_files.with_mark(thing, mark)
        for make in (torch_writers.zip_bytes, torch_writers.legacy_bytes):
            path = place / "weights.pth"
            path.write_bytes(make({"x": evil}, {}))
            out = place / "out.safetensors"
            ended = ssah("weights", path, "--out", out, memory=_MEMORY).end(600)
            said = _said(ended)
            tried += 1
            if mark.exists() or out.exists():
                faults.append(f"{name}: ran, or was taken")
            if fault := ended.fault(accepted=(2,), lines=1):
                faults.append(f"{name}: {fault}")
    return {"tried": tried, "said": said, "faults": faults}


def _bombs(place: Path, folder: Path, work: Path, known: Any) -> dict[str, Any]:
    """PNG of 60,000 x 60,000 pixels, a gzip of 4 GB, a zip that claims more."""
    import torch_writers

    faults, said = [], {}

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
        )

    side = 60_000
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * (1 << 24), 9)
    image = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows)
    (place / "photos").mkdir()
    (place / "photos" / "bomb.png").write_bytes(image + chunk(b"IEND", b""))
    encode = [
        "encode",
        "--workdir",
        work,
        place / "photos",
        "--out",
        place / "c.parquet",
    ]
    # An IDX file, gzipped: what it says it holds is 16 bytes.
    idx = place / "idx"
    idx.mkdir()
    for part in ("train", "t10k"):
        for kind, dims in (("images-idx3", 3), ("labels-idx1", 1)):
            start = bytes([0, 0, 8, dims]) + (2).to_bytes(4, "big") * dims
            with gzip.open(idx / f"{part}-{kind}-ubyte.gz", "wb", 1) as file:
                file.write(start)
                for _ in range(256 if kind == "images-idx3" else 1):
                    file.write(bytes(1 << 24))
    train = ["train", "--config=fashion_mnist", f"--config.data.path={idx}", *TRAIN]
    # Weights whose member is a gigabyte of zeros.
    tree, raw = torch_writers.described({})
    file = io.BytesIO(torch_writers.zip_bytes(tree, raw))
    with (
        zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("archive/data/0", "w", force_zip64=True) as member,
    ):
        for _ in range(256):
            member.write(bytes(1 << 24))
    (place / "w.pth").write_bytes(file.getvalue())
    weights = ["weights", place / "w.pth", "--out", place / "o.safetensors"]
    for name, words in (
        ("image", encode),
        ("gzip", [*train, f"--workdir={place / 'run'}"]),
        ("zip", weights),
    ):
        ended = ssah(*words, memory=_MEMORY).end(600)
        said[name] = f"{_said(ended)} ({ended.seconds:.1f} s)"
        if fault := ended.fault(accepted=(2,)):
            faults.append(f"{name}: {fault}")
    return {"said": said, "memory_bound_MB": _MEMORY >> 20, "faults": faults}


def _parents(place: Path, folder: Path, work: Path, known: Any) -> dict[str, Any]:
    """Paths out of the folder: named images are read, nothing is written there."""
    faults, said = [], {}
    outside = place / "outside"
    inside = place / "inside"
    photos(outside, 20)
    inside.mkdir()
    names = [f"../outside/{p.relative_to(outside)}" for p in outside.rglob("*.png")]
    rows = [f"{name},{index % 2}\n" for index, name in enumerate(names)]
    (inside / "tags.csv").write_text("path,labels\n" + "".join(rows))
    before = _tree(outside)
    train = ["train", "--config=digits", f"--workdir={place / 'run'}", *TRAIN]
    words = [
        *("--config.data.source=folder", f"--config.data.path={inside / 'tags.csv'}"),
        "--config.data.protocol=pooled",
        *("--config.data.num_queries=4", "--config.data.num_validation=2", "--check"),
        *("--config.labels_per_class=2", "--config.data.channels=1"),
    ]
    ended = ssah(*train, *words).end(600)
    said["table"] = _said(ended)
    if fault := ended.fault(accepted=(0, 2)):
        faults.append(fault)
    listed = place / "list.txt"
    listed.write_text("../../../../etc/passwd\n/dev/zero\n/proc/self/mem\n" + "\n")
    ended = ssah(
        *("encode", "--workdir", work, f"@{listed}", "--out", place / "c.parquet"),
        memory=_MEMORY,
    ).end(600)
    said["list"] = _said(ended)
    if fault := ended.fault(accepted=(2,)):
        faults.append(fault)
    if _tree(outside) != before:
        faults.append("something was written outside")
    return {"said": said, "faults": faults}


def _tree(root: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in root.rglob("*")}


def _archive(place: Path, folder: Path, work: Path, known: Any) -> dict[str, Any]:
    """Members called ../, absolute ones, links and devices."""
    faults, said = [], {}
    mark = place / "escaped"

    def link(name: str, to: str) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, to
        return member

    def plain(name: str) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.size = 4
        return member

    device = tarfile.TarInfo("cifar-10-batches-bin/device")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 5
    up = "../" * 12
    for name, members in {
        "../": [plain(f"{up}{str(mark)[1:]}")],
        "absolute": [plain(str(mark))],
        "link, then through it": [link("l", str(place)), plain("l/escaped")],
        "device": [device],
    }.items():
        source = place / re.sub(r"\W+", "_", f"of {name}")
        shutil.copytree(folder / "archive", source)
        path = source / "cifar-10-binary.tar.gz"
        with tarfile.open(path) as old:
            content = {m.name: old.extractfile(m).read() for m in old if m.isfile()}  # type: ignore[union-attr]
        with tarfile.open(path, "w:gz") as new:
            for member in members:
                new.addfile(member, io.BytesIO(b"evil") if member.size else None)
            for each, data in content.items():
                member = tarfile.TarInfo(each)
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
        data = place / f"data {name.replace('/', '_')}"
        ended = ssah(
            *("prepare", "cifar10", "--from", source, "--no-verify"), "--data-dir", data
        ).end(1200)
        said[name] = _said(ended)
        if mark.exists():
            faults.append(f"{name}: written outside")
            mark.unlink()
        if fault := ended.fault(accepted=(0, 2)):
            faults.append(f"{name}: {fault}")
        if ended.status == 2 and any(data.rglob("*.array_record*")):
            faults.append(f"{name}: something half-made is left")
    return {"said": said, "faults": faults}


def _links(place: Path, folder: Path, work: Path, known: Any) -> dict[str, Any]:
    """Links to a file outside, to a folder that holds them, to nowhere, a pipe."""
    faults = []
    root = photos(place / "photos", 10)
    os.symlink("/etc/passwd", root / "passwd.png")
    os.symlink("/dev/zero", root / "zero.png")
    os.symlink(root, root / "again")
    os.symlink("nowhere", root / "lost.png")
    os.mkfifo(root / "pipe.png")
    out = place / "c.parquet"
    ended = ssah("encode", "--workdir", work, root, "--out", out, memory=_MEMORY).end(
        60
    )
    if fault := ended.fault(accepted=(0,)):
        faults.append(fault)
    if b"root:" in out.read_bytes() if out.exists() else False:
        faults.append("a file from outside is in the codes")
    return {"said": ended.err.splitlines()[-4:], "faults": faults}


def _pages(place: Path, folder: Path, work: Path, known: Any) -> dict[str, Any]:
    """Names that are HTML, through training and searching, opened in a browser."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    faults: list[str] = []
    root = place / "photos"
    pictures = sorted((folder / "photos").rglob("*.png"))
    files = []
    for index, picture in enumerate(pictures):
        name = NAMES[index % len(NAMES)].replace("/", "\u2215")
        to = root / name / f"{index}{name}.png"
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, to)
        files.append(to)
    tags = [f"{NAMES[i % 5]}|{NAMES[(i + 1) % 5]}" for i in range(len(files))]
    rows = [
        '"{}","{}"\n'.format(*(str(x).replace('"', '""') for x in row))
        for row in zip(files, tags, strict=True)
    ]
    (place / "tags.csv").write_text("path,labels\n" + "".join(rows))
    runs = []
    for number, data in enumerate((root, place / "tags.csv")):
        workdir = place / f"run{number}"
        words = [
            *("--config.data.source=folder", f"--config.data.path={data}"),
            *(
                "--config.data.protocol=pooled",
                "--config.steps=2",
                "--config.data.channels=1",
                "--config.log_every=1",
            ),
            *("--config.labels_per_class=1", "--config.eval.every=1"),
            f"--config.data.multi_label={number == 1}",
        ]
        sizes = ["--config.data.num_queries=6", "--config.data.num_validation=4"]
        train = [
            "train",
            "--config=digits",
            f"--workdir={workdir}",
            *TRAIN,
            *words,
            *sizes,
        ]
        ended = ssah(*train).end(1200)
        if fault := ended.fault(accepted=(0,)):
            faults.append(f"train: {fault}")
        runs.append(workdir)
    codes, index = place / "c.parquet", place / "c.index"
    for words in (
        ["encode", "--workdir", work, root, "--out", codes],
        ["index", codes, "--out", index],
        [
            *("search", "--workdir", work, "--index", index, files[0], files[1]),
            *("--html", place / "found.html"),
        ],
    ):
        ended = ssah(*words).end(1200)
        if fault := ended.fault(accepted=(0,)):
            faults.append(f"{words[0]}: {fault}")
    pages = [place / "found.html", *(run / "report.html" for run in runs)]
    opened = 0
    for page in pages if chromium else []:
        if not page.exists():
            faults.append(f"no {page.name}")
            continue
        # Its policy forbids scripts: without it the names alone must be harmless.
        text = page.read_text()
        bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
        for content in (text, bare):
            page.write_text(content)
            done = subprocess.run(
                [
                    *(str(chromium), "--headless", "--no-sandbox", "--disable-gpu"),
                    *(
                        f"--user-data-dir={place / 'profile'}",
                        "--virtual-time-budget=2000",
                    ),
                    *("--dump-dom", page.as_uri()),
                ],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            title = re.search(r"<title>(.*?)</title>", done.stdout, re.S)
            opened += title is not None
            if title is None or title[1] in ("ran", "1"):
                faults.append(f"{page.name}: {title and title[1]}")
    return {"pages_opened": opened, "browser": bool(chromium), "faults": faults}


def _claims(place: Path, folder: Path, work: Path, known: Any) -> dict[str, Any]:
    """Parquet and index whose headers claim 10^12 rows."""
    faults, said = [], {}
    for name, make in (("Parquet", _claiming_parquet), ("index", _claiming_index)):
        child = Child(make, place, folder)
        ended = child.end(600)
        if ended.status:
            faults.append(f"{name}: could not be made: {ended.err[-200:]}")
            continue
        for path in ended.value:
            words = (
                ["index", path, "--out", place / "o.index", "--overwrite"]
                if path.suffix == ".parquet"
                else [
                    *("search", "--workdir", work, "--index", path),
                    next(iter(sorted((folder / "photos").rglob("*.png")))),
                ]
            )
            ended = ssah(*words, memory=_MEMORY).end(600)
            said[path.name] = f"{_said(ended)} ({ended.seconds:.1f} s)"
            # Of what only describes the rows a claim harms nobody: they are checked.
            harmless = name == "Parquet" and ended.status == 0
            if fault := ended.fault(accepted=(0, 2) if harmless else (2,)):
                faults.append(f"{path.name}: {fault}")
            if harmless and not ended.out.startswith("indexed 40 codes"):
                faults.append(f"{path.name}: {ended.out}")
    return {"said": said, "memory_bound_MB": _MEMORY >> 20, "faults": faults}


def _varint(number: int) -> bytes:
    number <<= 1  # zigzag of a positive one
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


def _claiming_parquet(place: Path, folder: Path) -> list[Path]:
    """The number of rows in the footer, in Thrift's variable length, replaced."""
    from ssah_jax.retrieval import read_codes

    content = (folder / "codes.parquet").read_bytes()
    rows = len(read_codes(folder / "codes.parquet").ids)
    size = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - size : -8]
    paths = []
    for number, match in enumerate(
        re.finditer(re.escape(b"\x16" + _varint(rows)), footer)
    ):
        claimed = (
            footer[: match.start()] + b"\x16" + _varint(10**12) + footer[match.end() :]
        )
        path = place / f"claims{number}.parquet"
        tail = claimed + len(claimed).to_bytes(4, "little") + b"PAR1"
        path.write_bytes(content[: -8 - size] + tail)
        paths.append(path)
    if not paths:
        raise ValueError("found no number of rows")
    return paths


def _claiming_index(place: Path, folder: Path) -> list[Path]:
    """The same in each member: its size in the zip, FAISS's counts."""
    with zipfile.ZipFile(folder / "photos.index") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    rows = len(__import__("pyarrow.parquet").parquet.read_table(
        io.BytesIO(members["rows.parquet"])
    ))  # fmt: skip
    paths = []

    def write(
        name: str, changed: dict[str, bytes], kind: int = zipfile.ZIP_STORED
    ) -> None:
        paths.append(place / name)
        with zipfile.ZipFile(place / name, "w", kind) as archive:
            for each, content in {**members, **changed}.items():
                archive.writestr(each, content)

    count, stored = rows.to_bytes(8, "little"), members["faiss.bin"]
    for number, match in enumerate(re.finditer(re.escape(count), stored)):
        claimed = (10**12).to_bytes(8, "little")
        changed = stored[: match.start()] + claimed + stored[match.end() :]
        write(f"count{number}.index", {"faiss.bin": changed})
    xb = len(stored) - 8
    for at in range(max(0, xb - 200), xb):
        if int.from_bytes(stored[at : at + 8], "little") == rows * 2:
            changed = stored[:at] + (10**12).to_bytes(8, "little") + stored[at + 8 :]
            write(f"codes{at}.index", {"faiss.bin": changed})
    write("deflated.index", {"faiss.bin": bytes(1 << 30)}, zipfile.ZIP_DEFLATED)
    header = json.loads(members["ssah_index.json"])
    write(
        "bits.index",
        {"ssah_index.json": json.dumps(header | {"bits": 10**12}).encode()},
    )
    return paths
