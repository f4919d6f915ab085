from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from sample_project.library import installed
from sample_project.library.installed import Installed
from sample_project.library.parsing import Broken
from tests.library.trees import make_distribution


def found(one: Installed) -> metadata.Distribution:
    distribution = installed.find(one)
    assert distribution is not None
    return distribution


def test_each_distribution_is_named_once_and_the_first_found_wins(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    make_distribution(first, "My.Tool", {}, version="2.0")
    make_distribution(second, "my-tool", {}, version="1.0")
    make_distribution(second, "another", {})
    assert installed.installed([str(first), str(second)]) == [
        Installed("another", "1.0", str(second)),
        Installed("My.Tool", "2.0", str(first)),
    ]


def test_every_distribution_of_this_environment_is_found_again() -> None:
    everything = installed.installed()
    assert {"Django", "psycopg", "pytest"} <= {one.name for one in everything}
    for one in everything:
        assert found(one).metadata["Name"] == one.name


def test_a_distribution_that_is_gone_is_not_found(tmp_path: Path) -> None:
    assert installed.find(Installed("gone", "1.0", str(tmp_path))) is None


def test_sources_are_listed_once_and_only_inside_the_location(tmp_path: Path) -> None:
    one = make_distribution(
        tmp_path,
        "tool",
        {"tool/b.py": "", "tool/a.py": "", "tool/data.txt": "", "tool/x.pyi": ""},
        listed=(
            "tool/a.py",
            "../../../bin/tool.py",
            "/etc/tool.py",
            "tool/__pycache__/a.cpython-311.pyc",
        ),
    )
    assert installed.source_files(found(one)) == {"tool/a.py": "", "tool/b.py": ""}


def test_a_listed_file_that_is_missing_stays_listed(tmp_path: Path) -> None:
    one = make_distribution(tmp_path, "tool", {}, listed=("tool/gone.py",))
    if "tool/gone.py" not in {str(path) for path in found(one).files or ()}:
        assert installed.source_files(found(one)) == {}  # Python 3.12 leaves it out
    else:
        assert installed.source_files(found(one)) == {"tool/gone.py": ""}


def test_a_path_that_no_index_can_hold_is_shown_cut(tmp_path: Path) -> None:
    long = "/".join(["d" * 200] * 15) + ".py"
    one = make_distribution(tmp_path, "tool", {"a.py": ""})
    record = tmp_path / "tool-1.0.dist-info" / "RECORD"
    record.write_text(f"a.py,,\n{long},,\nnul\0.py,,\n")
    try:
        listed = {str(path) for path in found(one).files or ()}
    except Exception:
        listed = set()
    files = installed.source_files(found(one))
    if long in listed:
        assert files["a.py"] == ""
        assert {bool(problem) for path, problem in files.items() if path != "a.py"} == {
            True
        }
        assert max(len(path.encode()) for path in files) < 2_704
    else:
        assert files.keys() <= {"a.py", "RECORD"}


def test_an_unreadable_record_is_reported_and_raises_nothing(tmp_path: Path) -> None:
    one = make_distribution(tmp_path, "tool", {"a.py": ""})
    (tmp_path / "tool-1.0.dist-info" / "RECORD").write_bytes(b"caf\xe9.py,,\n")
    ((path, problem),) = installed.source_files(found(one)).items()
    assert path == "RECORD"
    assert problem.startswith("unreadable: ")


def test_without_a_record_only_existing_files_count(tmp_path: Path) -> None:
    info = tmp_path / "old-1.0.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Name: old\nVersion: 1.0\nDescription: UNKNOWN\n")
    (info / "SOURCES.txt").write_text("setup.py\nold.py\n")
    (tmp_path / "old.py").write_text('"""Doc."""')
    one = Installed("old", "1.0", str(tmp_path))
    assert installed.source_files(found(one)) == {"old.py": ""}
    assert installed.readme(found(one)) == ""


def test_a_distribution_without_any_list_has_no_files(tmp_path: Path) -> None:
    one = make_distribution(tmp_path, "tool", {"a.py": ""})
    (tmp_path / "tool-1.0.dist-info" / "RECORD").unlink()
    assert installed.source_files(found(one)) == {}


def test_the_readme_is_the_body_or_the_description_header(tmp_path: Path) -> None:
    body = make_distribution(tmp_path, "body", {}, readme="# Körper\n\nText \0.\n")
    header = make_distribution(
        tmp_path,
        "header",
        {},
        metadata=b"Name: header\nVersion: 1\nDescription: # H\n        \n        T\n",
    )
    assert installed.readme(found(body)) == "# Körper\n\nText \ufffd."
    assert installed.readme(found(header)) == "# H\n\nT"


def test_metadata_that_is_not_utf8_is_broken_but_has_a_name(tmp_path: Path) -> None:
    make_distribution(tmp_path, "tool", {}, metadata=b"Name: tool\n\nCaf\xe9")
    (one,) = installed.installed([str(tmp_path)])
    assert one == Installed("tool", "1.0", str(tmp_path))
    with pytest.raises(Broken, match="not UTF-8: byte 0xe9 at offset"):
        installed.readme(found(one))


def test_missing_metadata_is_broken(tmp_path: Path) -> None:
    one = make_distribution(tmp_path, "tool", {})
    (tmp_path / "tool-1.0.dist-info" / "METADATA").unlink()
    with pytest.raises(Broken, match="unreadable: "):
        installed.readme(found(one))
