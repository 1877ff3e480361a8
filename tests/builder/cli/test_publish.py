"""`toffee publish model`: lists, writes, refuses."""

from __future__ import annotations

import json

import pytest

from builder.cli import main
from tests.tiny_family import write_family

LINES = ("| what | figure | n |\n| --- | --- | --- |\n| photo prompts: refined, PSNR in the mask | 1.0 ± 0.1 | 4 |\n"
         "| view by 0.9 rad: view, PSNR in the mask | 1.0 ± 0.1 | 4 |\n")


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    folder = write_family(tmp_path_factory.mktemp("to-publish") / "family")
    (folder / "training.json").write_text(json.dumps(
        {name: {"samples": 10, "minutes": 1.0} for name in ("refiner", "view", "base")}))
    (folder / "figures.md").write_text(LINES)
    return folder


def publish(family, target, *more, model="refiner"):
    return main(["publish", "model", "--model", model, "--from", str(family), "--to", str(target), "--figures",
                 str(family / "figures.md"), *more])


def test_a_dry_run_lists_every_file_and_writes_none(family, tmp_path, capsys):
    assert publish(family, tmp_path / "model", "--dry-run") == 0
    listed = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert publish(family, tmp_path / "model") == 0
    written = capsys.readouterr().out
    files = {path.relative_to(tmp_path / "model").as_posix(): path.stat().st_size
             for path in (tmp_path / "model").rglob("*") if path.is_file()}
    for told in (listed, written):
        rows = dict(reversed(line.split(maxsplit=1)) for line in told.splitlines()[: len(files)])
        assert {name: int(size.replace(",", "")) for name, size in rows.items()} == files
    assert "nothing was written" in listed and f"{tmp_path / 'model'}" in written


def test_a_view_generator_goes_by_both_names(family, tmp_path):
    assert publish(family, tmp_path / "view", "--half", model="view-generator") == 0
    assert (tmp_path / "view" / "pipeline_toffee_view.py").exists()
    assert publish(family, tmp_path / "view", "--replace", model="view") == 0


@pytest.mark.parametrize(("more", "sentence"), [
    ((), "is not empty"), (("--replace",), "no model of ours"), (("--dry-run",), "is not empty")])
def test_a_folder_with_something_else_is_refused(family, tmp_path, capsys, more, sentence):
    (tmp_path / "notes.txt").write_text("mine")
    assert publish(family, tmp_path, *more) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_only_the_hub_has_is_refused_for_a_folder(family, tmp_path, capsys):
    assert publish(family, tmp_path / "model", "--tag", "v2", "--private", "--dry-run") == 2
    assert "--tag, --private of a model in a folder" in capsys.readouterr().err


def test_figures_that_are_not_there_fail_before_anything_is_written(family, tmp_path, capsys):
    done = main(["publish", "model", "--model", "refiner", "--from", str(family), "--to", str(tmp_path / "model"),
                 "--figures", str(tmp_path / "none.md")])
    assert done == 2 and "cannot be read" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_licence_without_its_text_is_refused(family, tmp_path, capsys):
    assert publish(family, tmp_path / "model", "--license", "openrail++") == 2
    assert "--license-file" in capsys.readouterr().err


@pytest.fixture
def on_hub(hub, family, monkeypatch, capsys):
    """`toffee publish model --to org/refiner`; returns the status and what was said."""
    monkeypatch.setenv("HF_TOKEN", hub.write)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)

    def run(*more, to="org/refiner", model="refiner"):
        capsys.readouterr()
        return publish(family, to, *more, model=model), capsys.readouterr()

    return run


def test_a_model_is_released_on_the_hub(hub, on_hub, family):
    status, said = on_hub("--dry-run")
    assert status == 0 and "one commit to main, tag v1; nothing was written" in said.out and not hub.store.repositories
    status, said = on_hub()
    repository = hub.repository("org/refiner", "model")
    assert status == 0 and f"at {repository.commit_at('main').id}, tag v1" in said.out
    listed = {line.split()[-1] for line in said.out.splitlines() if "  new " in line}
    assert listed == repository.files.keys() - {".gitattributes"}
    assert {"README.md", "LICENSE", "pipeline_toffee_refiner.py", "model_index.json"} <= listed
    card = hub.content("org/refiner", "README.md", "model").decode()
    assert "model-index:" in card and "value: 1.0" in card and '"org/refiner", revision=' in card
    status, said = on_hub()
    assert status == 0 and "tag v1" in said.out and "0 new, 0 changed, 0 removed" in said.out, said
    assert hub.count("commit", 200) == 1
    status, said = on_hub("--half")
    assert status == 0 and "tag v2" in said.out
    for more in (["--dry-run"], []):
        status, said = on_hub("--tag", "v1", *more)
        assert status == 2 and "has a tag v1 on another commit; give another --tag" in said.err
    assert hub.count("commit", 200) == 2
    assert on_hub("--half", "--dry-run")[1].out.strip().endswith("no commit: all is there; nothing was written")


@pytest.mark.parametrize(("to", "token", "says"), [
    ("orgg/refiner", "hf_write", "no organisation or user 'orgg'"),
    ("org/refiner", "hf_stranger", "has no part in 'org'"),
    ("org/taken", "hf_write", "org/taken is taken: it holds thesis.txt and is no model of ours"),
    ("org/re finer", "hf_write", "is no name of a repository")])
def test_bad_places_on_the_hub(hub, on_hub, monkeypatch, to, token, says):
    hub.api().create_repo("org/taken")
    hub.api().upload_file(path_or_fileobj=b"mine", path_in_repo="thesis.txt", repo_id="org/taken")
    monkeypatch.setenv("HF_TOKEN", token)
    status, said = on_hub(to=to)
    assert status == 2 and says in said.err and len(said.err.strip().splitlines()) == 1
    assert [key for _, key in hub.store.repositories] == ["org/taken"]


@pytest.mark.parametrize("tag", ["", "a b", "-x", "a..b", "v1.", "refs/heads/main", "é"])
def test_a_tag_that_git_would_not_take(family, capsys, tag):
    with pytest.raises(SystemExit) as end:
        publish(family, "org/refiner", f"--tag={tag}")
    assert end.value.code == 2 and "must be of letters, digits" in capsys.readouterr().err


SPACE = ("---\ntitle: Toffee\nsdk: gradio\napp_file: app.py\nlicense: apache-2.0\ntags: [subject-driven]\n---\n"
         "A Space.\n")


@pytest.fixture
def space(hub, tmp_path, monkeypatch, capsys):
    """`toffee publish space --to org/space` of a small folder; returns the status and what was said."""
    monkeypatch.setenv("HF_TOKEN", hub.write)
    folder = tmp_path / "space"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__pycache__" / "app.pyc").write_bytes(b"x")
    (folder / ".gradio").mkdir()
    for hidden in (".env", ".gradio/certificate.pem"):
        (folder / hidden).write_text("secret")
    (folder / "app.py").write_text("print()\n")
    (folder / "README.md").write_text(SPACE)

    def run(*more):
        capsys.readouterr()
        return main(["publish", "space", "--from", str(folder), "--to", "org/space", *more]), capsys.readouterr()

    run.folder = folder
    return run


def test_a_space_is_uploaded_as_it_is(hub, space):
    assert space("--dry-run")[0] == 0 and not hub.store.repositories
    status, said = space()
    repository = hub.repository("org/space", "space")
    assert status == 0 and f"{repository.commit_at('main').id}, tag v1" in said.out
    assert repository.sdk == "gradio" and repository.files.keys() == {".gitattributes", "README.md", "app.py"}
    assert hub.content("org/space", "README.md", "space").decode() == SPACE
    (space.folder / "app.py").write_text("print(2)\n")
    assert "tag v2" in space()[1].out


@pytest.mark.parametrize(("old", "new", "says"), [
    ("title: Toffee\n", "", "the card's field 'title' cannot be filled"),
    ("app.py", "absent.py", "has no absent.py, which its card names as app_file"),
    ("[subject-driven]", "[other]", "has 'subject-driven' among its tags"),
    ("sdk: gradio", "sdk: flask", "the Hub does not take the card: \"sdk\" must be one of"),
    ("---\n", "", "no metadata")])
def test_a_card_of_a_space_that_lacks_something(hub, space, old, new, says):
    (space.folder / "README.md").write_text(SPACE.replace(old, new))
    status, said = space()
    assert status == 2 and says in said.err and not hub.store.repositories


def test_our_own_space_can_be_published(hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", hub.write)
    assert main(["publish", "space", "--to", "org/space"]) == 0, capsys.readouterr().err
    files = hub.repository("org/space", "space").files
    assert {"README.md", "app.py", "requirements.txt"} < files.keys() and not [p for p in files if "__pycache__" in p]
