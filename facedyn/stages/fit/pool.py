"""The people that the generic model learnt from: whatever else is the same for everybody is learnt from them, too."""

from facedyn.stages.runtime import common
from facedyn.store import stamps


def generic_pool(config, workdir, face_clips, records):
    """(reader, its records) of the generic model's people; (`face_clips`, `records`) where those are not known or not there."""
    people = people_of(workdir)
    reader = (
        common.open_data(common.pretrain_data_dir(config, workdir), config) if config.data.pretrain_manifest else face_clips
    )
    chosen = [i for i, clip in enumerate(reader.clips) if clip.person_id in people]
    return (reader, chosen) if chosen else (face_clips, records)


def people_of(workdir) -> set[str]:
    """Whose faces, unlabelled, the generic model and what belongs to it have seen."""
    summaries = [(stamps.read_stamp(workdir, stage) or {"summary": {}})["summary"] for stage in ("pretrain", "fit")]
    return {*summaries[0].get("people", ()), *summaries[1].get("basis_from", ())}
