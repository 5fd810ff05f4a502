"""The embedded sound world: labelled sounds for eight tasks, made by code alone, with no download.

    make_sounds("my-sounds")                                 # 3,200 clips and manifest.csv
    render("instrument", label="pluck", seed=3)              # one clip, to listen to

Every clip is 1 to 2 s of 16 kHz mono. `manifest.csv` has one row for each (clip, task) pair: path, task,
label, split, group. A clip that is `test` in any task is `train` in none, so whoever pre-trains on the clips
that are `test` nowhere has seen no test clip.

What never straddles the halves (the column `group`):

- keyword, emotion, language: the speaker. Twelve known speakers train, eight guests test.
- speaker: the session, two utterances in one room. These test clips are other sessions of known speakers; in
  keyword, emotion and language their label is given, but their split is empty.
- instrument: the instrument with its note. No pitch at all is in both halves.
- bird, scene, urban: the recording, one draw of all that stands in front of the microphone, and of the room.

The labels are in how a sound moves, not in its average spectrum: room, microphone, background colour, level
and pitch are random, and words come in pairs that hold the same sounds in another order.
`benchmarks/sound_world.py` measures both statements.
"""

from slicer_lite.sounds.world import TASKS, VERSION, Clip, Row, make_sounds, plan, render

__all__ = ["TASKS", "VERSION", "Clip", "Row", "make_sounds", "plan", "render"]
