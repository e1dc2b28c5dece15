"""A WORKDIR through whatever its users do to it, in any order, against a simple model of what must be true.

FACEDYN_STEPS=500 pytest tests/test_workdir_states.py -n 0   for longer than CI does.
"""

import os
import pathlib
import shutil
import tempfile

import pandas as pd
import pytest
from conftest import ROOT, TINY, drifting_blob, hash_seed, write_video
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from test_forget import holding

import facedyn
from data_pipelines.dataset.face_clips import open_face_clips
from data_pipelines.faces import clip_faces
from facedyn.main import main
from facedyn.store import lock

STEPS = int(os.environ.get("FACEDYN_STEPS", "30"))
SETTINGS = TINY | {"rank_loss.scales": "1", "fit.split_half": False}


class Killed(BaseException):
    """What `kill -9` is to a process that is not one of its own: nothing is cleaned up behind it."""


def killed(call, after: int, locked):
    """What the call returns; None where its process died at the `after`th file that it moved to its place."""
    real, calls = os.replace, []

    def replace(*paths):
        calls.append(paths)
        if len(calls) == after:
            raise Killed
        real(*paths)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        try:
            return call()
        except Killed:
            (locked / "lock").unlink(missing_ok=True)  # the system frees a dead process's lock
            return None


class Workdir(RuleBasedStateMachine):
    """`clips`: what the manifest says, {clip_id: person_id}; `known`: people of whom something may lie in WORKDIR."""

    def __init__(self):
        super().__init__()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="facedyn-states-"))
        self.clips, self.labels, self.known, self.number, self.prepared = {}, {}, set(), 0, None

    def teardown(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def workdir(self):
        return self.folder / "w"

    def command(self, stage, **more):
        values = SETTINGS | {"data.manifest": self.folder / "clips.csv"} | {k.replace("__", "."): v for k, v in more.items()}
        flags = [f"--config.{name}={value}" for name, value in values.items()]
        return main([stage, f"--config={ROOT}/configs/videos.py", f"--workdir={self.workdir}", *flags])

    def write_manifest(self):
        rows = ["clip_id,person_id,path,split,aligned,calm,bold"]
        for i, (clip, person) in enumerate(self.clips.items()):
            split = ("train", "validation", "test")[hash_seed(person) % 3] if i > 2 else ("train", "validation", "test")[i]
            rows.append(f"{clip},{person},videos/{clip}.avi,{split},true,{self.labels[clip]},0.5")
        (self.folder / "clips.csv").write_text("\n".join(rows) + "\n")

    def new_clip(self, person):
        self.number += 1
        clip = f"{person}-{self.number}"
        write_video(self.folder / "videos" / f"{clip}.avi", drifting_blob(40, hash_seed(clip)))
        self.clips[clip], self.labels[clip] = person, 0.25
        self.write_manifest()

    @initialize()
    def some_people(self):
        for name in ("aurora", "bernadette", "clementine", "dorothea"):
            self.new_clip(f"person-{name}")

    @rule(new=st.booleans())
    def adds_a_clip(self, new):
        self.new_clip(f"person-extra{self.number}" if new else next(iter(self.clips.values())))

    @precondition(lambda self: len(set(self.clips.values())) > 3)  # fewer are refused
    @rule(data=st.data())
    def takes_a_row_out(self, data):
        clip = data.draw(st.sampled_from(sorted(self.clips)))
        del self.clips[clip]
        self.write_manifest()

    @rule(data=st.data(), value=st.integers(0, 9))
    def corrects_a_label(self, data, value):
        self.labels[data.draw(st.sampled_from(sorted(self.clips)))] = value / 10
        self.write_manifest()

    @rule()
    def prepares(self):
        assert self.command("prepare") == 0
        self.known |= set(self.clips.values())
        self.prepared = dict(self.clips)

    @rule(after=st.integers(1, 40))
    def is_killed_in_prepare(self, after):
        assert killed(lambda: self.command("prepare"), after, self.workdir) in (None, 0)
        self.known |= set(self.clips.values())
        self.prepares()

    @rule()
    def moves_everything(self):
        place = self.folder.with_name(f"{self.folder.name}-{self.number}x")
        shutil.move(self.folder, place)
        self.folder = place

    @precondition(lambda self: self.prepared == self.clips)
    @rule()
    def prepares_again_and_nothing_is_decoded(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clip_faces, "_processed", lambda *_, **__: pytest.fail("a clip was decoded again"))
            assert self.command("prepare") == 0

    @precondition(lambda self: self.prepared == self.clips)
    @rule()
    def trains_and_fits(self):
        for stage in ("pretrain", "fit"):
            code = self.command(stage)
            assert code in (0, 2)  # 2: learnt from other clips, which is refused
            if code:
                return
        rows, _ = facedyn.load_representations(self.workdir)
        assert not rows.duplicated(["unit_id", "scale"]).any()
        assert set(rows["person_id"]) == set(self.clips.values())

    @precondition(lambda self: self.prepared == self.clips)
    @rule(after=st.integers(1, 8))
    def is_killed_in_fit(self, after):
        if self.command("pretrain") == 0:
            assert killed(lambda: self.command("fit"), after, self.workdir) in (None, 0, 2)
            self.trains_and_fits()

    @precondition(lambda self: self.prepared == self.clips)
    @rule()
    def changes_a_setting(self):
        """One that results depend on is refused once there are some, and touches nothing; one without effect is not."""
        self.trains_and_fits()
        there = self.command("fit") == 0
        before = {path: path.stat().st_mtime_ns for path in (self.workdir / "representations").rglob("part-*")}
        if there:
            assert self.command("fit", fit__max_frames=11) == 2
            assert self.command("fit", fit__chunk_size=2) == 0
        assert before == {path: path.stat().st_mtime_ns for path in (self.workdir / "representations").rglob("part-*")}

    @precondition(lambda self: self.prepared == self.clips and len(set(self.clips.values())) > 3)
    @rule(data=st.data())
    def forgets_a_person(self, data):
        person = data.draw(st.sampled_from(sorted(set(self.clips.values()))))
        assert main(["forget", f"--workdir={self.workdir}", f"--person={person}"]) == 0
        assert holding(self.workdir, [person.encode()]) == set()
        self.clips = {clip: own for clip, own in self.clips.items() if own != person}
        self.known.discard(person)
        self.prepared = dict(self.clips)
        self.write_manifest()

    @precondition(lambda self: self.prepared)
    @rule()
    def asks_to_forget_a_stranger(self):
        assert main(["forget", f"--workdir={self.workdir}", "--person=nobody"]) == 2

    @precondition(lambda self: self.prepared)
    @rule()
    def starts_a_second_run(self):
        with lock.held(self.workdir):
            assert self.command("prepare") == 2

    @precondition(lambda self: self.prepared)
    @invariant()
    def the_dataset_holds_what_was_prepared_last(self):
        clips = open_face_clips(self.workdir / "data").clips
        assert {clip.clip_id: clip.person_id for clip in clips} == self.prepared


class Table(RuleBasedStateMachine):
    """A table of `embed` by the model in the package: `clips` are those that it holds, {clip_id: person_id}."""

    def __init__(self):
        super().__init__()
        self.folder, self.clips, self.number = pathlib.Path(tempfile.mkdtemp(prefix="facedyn-states-")), {}, 0

    def teardown(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, stage, clips=(), *words):
        """The exit code of `embed` or `add` with these clips, {clip_id: person_id}."""
        if clips:
            rows = [f"{clip},{person},videos/{clip}.avi,true" for clip, person in clips.items()]
            (self.folder / "clips.csv").write_text("\n".join(["clip_id,person_id,path,aligned", *rows]) + "\n")
        where = [str(self.folder / "clips.csv")] * bool(clips) + [f"--{'out' if stage == 'embed' else 'to'}={self.table}"]
        return main([stage, *where, *words])

    @property
    def table(self):
        return self.folder / "t.parquet"

    def new_clip(self, person):
        self.number += 1
        clip = f"{person}-{self.number}"
        write_video(self.folder / "videos" / f"{clip}.avi", drifting_blob(40, hash_seed(clip)))
        return {clip: person}

    @initialize()
    def embeds(self):
        self.clips = self.new_clip("anna") | self.new_clip("ben")
        assert self.call("embed", self.clips) == 0

    @rule(person=st.sampled_from(["anna", "ben", "carl"]))
    def adds(self, person):
        new = self.new_clip(person)
        assert self.call("add", new) == 0
        self.clips |= new

    @rule(after=st.integers(1, 12))
    def is_killed_in_add(self, after):
        new = self.new_clip("anna")
        assert killed(lambda: self.call("add", new), after, self.folder / "t.unfinished") in (None, 0)
        assert self.call("add", new) in (0, 2)  # 2: it was done before the kill
        self.clips |= new

    @precondition(lambda self: len(self.clips) > 1)
    @rule(data=st.data())
    def takes_out(self, data):
        clip = data.draw(st.sampled_from(sorted(self.clips)))
        assert self.call("add", (), f"--remove={clip}") == 0
        del self.clips[clip]

    @rule()
    def takes_out_a_stranger(self):
        assert self.call("add", (), "--remove=nobody") == 2

    @rule()
    def moves_everything(self):
        place = self.folder.with_name(f"{self.folder.name}-{self.number}x")
        shutil.move(self.folder, place)
        self.folder = place

    @rule()
    def embeds_all_again(self):
        assert self.call("embed", self.clips, "--overwrite") == 0

    @invariant()
    def the_table_is_of_these_clips(self):
        if self.clips:
            videos, features = pd.read_parquet(self.folder / "t.videos.parquet"), pd.read_parquet(self.table)
            assert dict(zip(videos["clip_id"], videos["person_id"])) == self.clips
            assert set(features["person_id"]) == set(self.clips.values())
            assert features.notna().all(None)


class Drawn:
    """A choice that was made before."""

    def __init__(self, value):
        self.value = value

    def draw(self, _):
        return self.value


def test_the_part_that_a_forgotten_person_has_left_empty_is_in_nobodys_way():
    """Found by the test below: the clips that change their split are packed, and packing takes the empty part away."""
    machine = Workdir()
    try:
        machine.some_people()
        machine.adds_a_clip(new=True)
        machine.prepares()
        machine.forgets_a_person(data=Drawn("person-dorothea"))
        machine.corrects_a_label(data=Drawn("person-extra4-5"), value=0)
        machine.prepares()  # the part of that clip is now newer than the empty one
        machine.takes_a_row_out(data=Drawn("person-aurora-1"))  # and so the next row becomes the train split
        machine.prepares()
        machine.the_dataset_holds_what_was_prepared_last()
    finally:
        machine.teardown()


@pytest.mark.slow
@pytest.mark.parametrize(("machine", "steps"), [(Workdir, 30), (Table, 10)])
def test_whatever_is_done_in_whatever_order(machine, steps):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(3 if machine is Workdir else 1, STEPS // 30),
            stateful_step_count=steps,
            deadline=None,
            derandomize="FACEDYN_STEPS" not in os.environ,
            phases=[Phase.generate],  # a failing run is long; its steps are printed as they were
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
