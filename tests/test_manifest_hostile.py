"""Manifests as spreadsheets, other programs and tired people write them: read as meant, or refused by one sentence."""

import os
import time

import pytest

from data_pipelines.errors import InputError
from data_pipelines.manifest import read_manifest
from data_pipelines.paths import hint
from facedyn.main import main

HEAD = "clip_id,person_id,path\n"
EXCEL = "clip_id;person_id;path;calm\na;1;x.mp4;0,5\nb;2;y.mp4;-1,25\n"

# name: (text or bytes of the CSV, words that its one sentence must have)
REFUSED = {
    "no person": (HEAD + "a,nan,x.mp4\nb,nan,y.mp4\n", ["person_id 'nan' in lines 2, 3", "missing value"]),
    "no person, R": (HEAD + "a,7,x.mp4\nb,NA,y.mp4\n", ["person_id 'NA' in line 3"]),
    "no person, Python": (HEAD + "a,None,x.mp4\n", ["person_id 'None'", "drop the rows"]),
    "no person, Excel": (HEAD + "a,#N/A,x.mp4\n", ["person_id '#N/A'"]),
    "no person, SQL": (HEAD + "a,NULL,x.mp4\n", ["person_id 'NULL'"]),
    "nobody knows who": (HEAD + "a,Unknown,x.mp4\n", ["person_id 'Unknown'"]),
    "no clip": (HEAD + "NaN,7,x.mp4\n", ["clip_id 'NaN' in line 2"]),
    "only zero-width": (HEAD + "a,\u200b\ufeff,x.mp4\n", ["person_id", "line 2", "empty"]),
    "float and integer": (
        HEAD + "a,1,x.mp4\nb,1.0,y.mp4\n",
        ["'1' in line 2", "'1.0' in line 3", "one number written in two ways"],
    ),
    "float and integer, clips": (HEAD + "3,p,x.mp4\n3.00,q,y.mp4\n", ["clip_id '3'", "'3.00'"]),
    "leading zeros, too": (HEAD + "a,007,x.mp4\nb,007.0,y.mp4\n", ["'007'", "'007.0'"]),
    "shortened": (HEAD + "a,1.23E+11,x.mp4\nb,1.23E+11,y.mp4\n", ["'1.23E+11' in lines 2, 3", "shortened", "as text"]),
    "twice, invisibly": (HEAD + "a,p,x.mp4\na\u200b,p,y.mp4\n", ["clip_id 'a' twice", "lines 2 and 3"]),
    "twice, by accents": (HEAD + "é,p,x.mp4\ne\u0301,p,y.mp4\n", ["twice"]),
    "capital letters": ("Clip_ID,Person_ID,Path\na,b,c\n", ["'clip_id' (did you mean 'Clip_ID'?)", "'Person_ID'", "'Path'"]),
    "spaces": ("clip id,person id,path \na,b,c\n", ["did you mean 'clip id'", "did you mean 'person id'", "rename"]),
    "other words": ("ID,Subject,File\na,b,c\n", ["did you mean 'ID'", "did you mean 'Subject'", "did you mean 'File'"]),
    "other words, semicolons": ("ID;Subject;File\na;b;c\n", ["did you mean 'ID'", "did you mean 'Subject'"]),
    "an optional one": ("clip_id,person_id,path,Split\na,b,c,test\n", ["column 'Split'", "rename it to 'split'"]),
    "no header": ("a,b,x.mp4\nc,d,y.mp4\n", ["no column 'clip_id'", "its columns are a, b, x.mp4"]),
    "UTF-16": ((HEAD + "a,b,c\n").encode("utf-16"), ["UTF-16", "CSV UTF-8"]),
    "Latin-1": ((HEAD + "a,Jürgen,c\n").encode("latin-1"), ["0xfc in line 2", "CSV UTF-8"]),
    "a workbook": (b"PK\x03\x04\x14\x00\x06\x00", ["Excel workbook"]),
    "Parquet": (b"PAR1\x15\x04", ["Parquet"]),
    "zero bytes": (b"clip_id,person_id,path\na,b\x00,c\n", ["zero bytes"]),
    "nothing": ("", ["is empty"]),
    "nothing but the separator": ("sep=;", ["is empty"]),  # found by benchmarks/fuzz_readers.py
    "blank lines": ("\n \n\n", ["is empty"]),
    "commas in a number": ("clip_id,person_id,path,fps\na,b,c,29,97\n", ["Line 2", "5 cells", "quote"]),
    "a quote that never ends": (HEAD + 'a,"b,x.mp4\nc,d,y.mp4\n', ["Line", "cells"]),
    "a huge cell": (HEAD + f"a,{'x' * 200_000},c\n", ["field larger"]),
    "other URLs": (HEAD + "a,b,https://host/x.mp4\n", ["https://host/x.mp4", "gs:// and s3://"]),
    "two columns of a name": ("clip_id,person_id,path,path\na,b,c,d\n", ["'path' twice"]),
    "two of a name, invisibly": ("clip_id,person_id,path,\u200bpath\na,b,c,d\n", ["'path' twice"]),
    "both separators": ("clip_id;person_id;path;fps\na;b;c;1.234,5\n", ["fps", "'1.234,5'"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_one_sentence_on_the_command_line(tmp_path, root, capsys, name):
    text, words = REFUSED[name]
    file = tmp_path / "m.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    for stage in ("prepare", "doctor"):
        arguments = [f"--config={root}/configs/videos.py", f"--config.data.manifest={file}", f"--workdir={tmp_path}/w"]
        assert main([stage, *arguments]) == 2
        # What the stage announces as it begins may stand before.
        *_, said = capsys.readouterr().err.splitlines()
        assert said.startswith("facedyn: "), said
        assert said.rstrip().endswith("."), said
        assert all(word in said for word in words), said


def test_folders_and_locked_files(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"is a folder, not a CSV.*configs/folder\.py"):
        read_manifest(tmp_path)
    (tmp_path / "m.csv").write_text(HEAD + "a,b,c\n")

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "read_bytes", denied)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied"):
        read_manifest(tmp_path / "m.csv")


# name: (text or bytes, clip ids, person ids, values of calm)
READ = {
    "semicolons": (EXCEL, ["a", "b"], ["1", "2"], [0.5, -1.25]),
    "tabs": (EXCEL.replace(";", "\t"), ["a", "b"], ["1", "2"], [0.5, -1.25]),
    "Excel's first line": ("sep=;\r\n" + EXCEL.replace("\n", "\r\n"), ["a", "b"], ["1", "2"], [0.5, -1.25]),
    "quoted header": (EXCEL.replace("clip_id", '"clip_id"'), ["a", "b"], ["1", "2"], [0.5, -1.25]),
    "byte-order mark": (b"\xef\xbb\xbf" + EXCEL.encode(), ["a", "b"], ["1", "2"], [0.5, -1.25]),
    "old Mac": (EXCEL.replace("\n", "\r"), ["a", "b"], ["1", "2"], [0.5, -1.25]),
    "empty columns": ("clip_id,person_id,path,calm,,\na,1,x,0.5,,\nb,2,y,-1.25,,\n", ["a", "b"], ["1", "2"], [0.5, -1.25]),
    "invisible": (
        "clip_id,person_id,\u200bpath,calm\na\u200b,\ufeffanna\u00a0lee ,x,1\nb,anna lee,y,2\n",
        ["a", "b"],
        ["anna lee", "anna lee"],
        [1, 2],
    ),
    "two forms": ("clip_id,person_id,path,calm\na,Zoë,x,1\nb,Zoe\u0308,y,2\n", ["a", "b"], ["Zoë", "Zoë"], [1, 2]),
    "numbers that are none": ("clip_id,person_id,path,calm\na,1.1,x,1\nb,1.10,y,2\n", ["a", "b"], ["1.1", "1.10"], [1, 2]),
    "a name that begins so": (
        "clip_id,person_id,path,calm\na,nancy,x,1\nb,Na Li,y,2\n",
        ["a", "b"],
        ["nancy", "Na Li"],
        [1, 2],
    ),
}


@pytest.mark.parametrize("name", READ)
def test_what_has_one_meaning_is_read(tmp_path, name):
    text, clips, people, calm = READ[name]
    (tmp_path / "m.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    entries = read_manifest(tmp_path / "m.csv", ("calm",))
    assert [entry.clip_id for entry in entries] == clips
    assert [entry.person_id for entry in entries] == people
    assert [entry.traits[0] for entry in entries] == calm


@pytest.mark.skipif(os.sep == "\\", reason="backslashes are what Windows has")
def test_paths_of_windows(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "b.mpg").touch()
    (tmp_path / "odd\\name.mpg").touch()
    cells = (
        "videos\\b.mpg",
        "videos\\none.mpg",
        "C:\\data\\b.mpg",
        "\\\\server\\b.mpg",
        "odd\\name.mpg",
        "~nobody-of-that-name/x",
    )
    (tmp_path / "m.csv").write_text(HEAD + "".join(f"{i},p,{cell}\n" for i, cell in enumerate(cells)))
    paths = [entry.path for entry in read_manifest(tmp_path / "m.csv")]
    assert paths[0] == tmp_path / "videos" / "b.mpg"
    assert paths[4] == tmp_path / "odd\\name.mpg"  # a file may have such a name
    assert "write / between" in hint(paths[1])
    assert all("a path of Windows" in hint(path) for path in paths[2:4])
    assert hint(paths[0]) == hint(paths[5]) == ""


def test_a_file_is_found_under_either_form_of_its_accents(tmp_path):
    (tmp_path / "Zoe\u0308.mp4").touch()  # as macOS writes it
    (tmp_path / "m.csv").write_text(HEAD + "a,p,Zoë.mp4\nb,p,\u200bZoë.mp4\n", encoding="utf-8")
    assert [entry.path.exists() for entry in read_manifest(tmp_path / "m.csv")] == [True, True]


@pytest.mark.slow
def test_a_hundred_thousand_rows_in_seconds(tmp_path):
    folder = "a" * 120 + "/" + "é" * 100
    rows = [f"c{i:06d},p{i // 10},{folder}/v{i}.mp4,0.5" for i in range(100_000)]
    (tmp_path / "m.csv").write_text("clip_id,person_id,path,calm\n" + "\n".join(rows), encoding="utf-8")
    start = time.perf_counter()
    assert len(read_manifest(tmp_path / "m.csv", ("calm",))) == 100_000
    assert time.perf_counter() - start < 60  # 5 s on a busy machine; hours when every row looks at every other
