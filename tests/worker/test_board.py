from __future__ import annotations

import os
import subprocess
import sys
from uuid import uuid4

from orchestrator.worker.board import CELLS, Board


def test_another_process_leaves_what_it_started_on_the_board(board: Board) -> None:
    mine, file = Board.create(3)
    try:
        os.set_inheritable(file.fileno(), True)
        ended, running, beside = uuid4(), uuid4(), uuid4()
        program = (
            "import os, sys, uuid\n"
            "from orchestrator.worker.board import Board\n"
            "board = Board(int(sys.argv[1]), 3)\n"
            "board.mark(0, uuid.UUID(sys.argv[2]))\n"
            "board.mark(0, uuid.UUID(sys.argv[3]))\n"
            "board.mark(2, uuid.UUID(sys.argv[4])); board.note_group(1, 4711)\n"
            "board.beat_child()\n"
            "os._exit(1)\n"
        )
        subprocess.run(
            [
                sys.executable,
                "-c",
                program,
                str(file.fileno()),
                str(ended),
                str(running),
                str(beside),
            ],
            pass_fds=[file.fileno()],
            check=False,
        )
        assert mine.started() == {ended, running, beside}
        assert mine.groups() == [4711]
        assert mine.child_silence() < 60
    finally:
        mine.close()
        file.close()


def test_a_slot_forgets_what_must_have_been_settled_long_ago(board: Board) -> None:
    marked = [uuid4() for _ in range(2 * CELLS + 3)]
    for task_run_id in marked:
        board.mark(1, task_run_id)
    assert board.started() == set(marked[-CELLS:])


def test_silence_is_counted_from_the_last_beat(board: Board) -> None:
    assert board.child_silence() == float("inf")
    board.beat_child()
    board.beat_supervisor()
    assert 0 <= board.child_silence() < 5
    assert 0 <= board.supervisor_silence() < 5


def test_hints_for_pages_are_wanted_for_a_time(board: Board) -> None:
    assert not board.wants_feed()
    board.want_feed(60)
    assert board.wants_feed()
    board.want_feed(-1)
    assert not board.wants_feed()
