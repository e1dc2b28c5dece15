"""Feeds damaged and made-up bytes to the readers of files from outside: whatever they get, it is a value or one sentence.

    python benchmarks/fuzz_readers.py [--minutes 10] [--only manifest,openface,pickle,safetensors]

Coverage-guided, by Atheris (`pip install atheris`, Linux and macOS). Each reader runs in its own process; inputs that
crash it are written to --out and named in the table. A crash is any exception but InputError, a hang
of 20 seconds or 1 GiB of memory.
"""

import argparse
import contextlib
import pathlib
import pickle
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
READERS = ("manifest", "openface", "pickle", "safetensors")
MANIFEST = b"clip_id,person_id,path,session,split,fps,calm\na1,a,v/a.mp4,1,train,25,0.5\nb1,b,v/b.mp4,2,test,29.97,\n"
OPENFACE = b"frame, face_id, timestamp, confidence, success\n1, 0, 0.000, 0.98, 1\n2, 0, 0.040, 0.98, 1\n"


def seeds(reader: str) -> list[bytes]:
    """Whole files that the fuzzer starts from."""
    if reader == "manifest":
        semicolons = MANIFEST.replace(b",", b";")
        return [MANIFEST, semicolons, b"\xef\xbb\xbf" + MANIFEST, b"sep=;\n" + semicolons, MANIFEST.replace(b"\n", b"\r\n")]
    if reader == "openface":
        return [OPENFACE, OPENFACE.replace(b", ", b";").replace(b"0.98", b"0,98"), OPENFACE.replace(b", ", b"\t")]
    if reader == "pickle":
        return [pickle.dumps({"openness": {"a.mp4": 0.5}, "n": [1, (2, None)]}, protocol) for protocol in range(6)]
    import numpy as np
    from safetensors.numpy import save

    return [save({"scale_1/x": np.zeros((2, 3), np.float32)}, {"facedyn": '{"format": "facedyn generic model", "version": 1}'})]


def read(reader: str, path: pathlib.Path) -> None:
    """Reads `path` as the package does."""
    if reader == "manifest":
        from data_pipelines.manifest import read_manifest

        read_manifest(path, ("calm",))
    elif reader == "openface":
        from data_pipelines.faces.openface_table import is_table, read_table

        is_table(path)
        read_table(path)
    elif reader == "pickle":
        from data_pipelines.sources.restricted_pickle import load

        load(path)
    else:
        from facedyn.config import default_config
        from facedyn.store.portable import read_generic

        read_generic(path, default_config(), {}, 1)


def fuzz(reader: str, seconds: int, out: pathlib.Path) -> None:
    """One reader in this process; ends it."""
    import atheris

    sys.path.insert(0, str(ROOT))
    with atheris.instrument_imports(include=["data_pipelines", "facedyn.store", "pickle"]):
        from data_pipelines.errors import InputError

        with contextlib.suppress(InputError):  # loads the reader while imports are instrumented
            read(reader, pathlib.Path("nowhere"))
    folder = pathlib.Path(tempfile.mkdtemp())
    path = folder / {"pickle": "x.pkl", "safetensors": "x.safetensors"}.get(reader, "x.csv")

    def one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read(reader, path)
        except InputError as error:
            if "\n" in str(error).strip():
                raise RuntimeError("more than one line") from error

    corpus = folder / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(seeds(reader)):
        (corpus / str(i)).write_bytes(seed)
    limits = [
        f"-max_total_time={seconds}",
        "-timeout=20",
        "-rss_limit_mb=1024",
        "-max_len=4096",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={out}/{reader}-", str(corpus)], one)
    atheris.Fuzz()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="for each reader")
    parser.add_argument("--only", default=",".join(READERS))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("fuzz-crashes"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    a = parser.parse_args()
    a.out.mkdir(exist_ok=True, parents=True)
    if a.one:
        fuzz(a.one, int(60 * a.minutes), a.out)
        return 0
    crashed = False
    print("| reader | inputs | crashes |\n|---|---|---|")
    for reader in a.only.split(","):
        command = [sys.executable, __file__, "--one", reader, "--minutes", str(a.minutes), "--out", str(a.out)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        lines = [line.split(":")[-1].strip() for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        found = sorted(path.name for path in a.out.glob(f"{reader}-*"))
        crashed |= bool(found or done.returncode)
        print(f"| {reader} | {lines[0] if lines else '?'} | {', '.join(found) or 'none'} |", flush=True)
        if done.returncode:
            print("\n".join(done.stderr.splitlines()[-30:]), file=sys.stderr)
    return int(crashed)


if __name__ == "__main__":
    sys.exit(main())
