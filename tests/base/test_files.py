"""Files are whole at every moment, whoever writes them at once."""

import json
import threading

import pytest

from slicer_lite.base.files import write_durably, write_json


def test_two_writers_of_one_file_never_leave_half_of_it(tmp_path):
    path = tmp_path / "results.json"
    contents = [list(range(50_000)), list(range(30_000, 0, -1))]
    write_json(path, contents[0])
    went_wrong, done = [], threading.Event()

    def write(value):
        try:
            for _ in range(20):
                write_json(path, value)
        except Exception as error:
            went_wrong.append(error)

    def read():
        while not done.is_set():
            try:
                assert json.loads(path.read_text()) in contents
            except Exception as error:
                went_wrong.append(error)
                return

    writers = [threading.Thread(target=write, args=(value,)) for value in contents]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert went_wrong == []
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_what_cannot_be_written_leaves_the_old_content(tmp_path):
    path = tmp_path / "notes.txt"
    write_durably(path, b"old")

    def fail(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="while writing"):
        write_durably(path, fail)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
